"""Re-parameterisation: kernel algebra, blocks that train as branches and ship as one kernel, and
the deploy form.
"""
