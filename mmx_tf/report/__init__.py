"""The report of a run: one HTML file to read, print or hand on, and its short form on the terminal."""

from mmx_tf.report.write import (
    print_front,
    print_summary,
    save_bits_plot,
    write_front_report,
    write_report,
)

__all__ = ["print_front", "print_summary", "save_bits_plot", "write_front_report", "write_report"]
