"""Studies: grids over the pipeline, declared in studies/NAME.yaml and run as DVC experiments.

declare.py   what a study says, and the experiments that it stands for
queue.py     their way through DVC's queue
results.py   one tidy CSV, a Markdown table and a plot of what came out
"""
