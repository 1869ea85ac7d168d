"""The version of mmx_tf, which the files that it writes name."""

VERSION = "0.1.0"
