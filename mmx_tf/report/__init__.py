"""The report of a run: one HTML file to read, print or hand on, and its short form on the terminal."""

from mmx_tf.report.plots import save_bits_plot
from mmx_tf.report.terminal import print_front, print_summary
from mmx_tf.report.write import write_front_report, write_report

__all__ = ["print_front", "print_summary", "save_bits_plot", "write_front_report", "write_report"]
