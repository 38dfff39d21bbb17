"""The report as one HTML file that opens offline: a form of the content, with figures that answer
questions. Knows what the content and the evaluation say; computes no accuracy of its own.
"""
