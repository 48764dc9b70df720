"""Studies: grids over the pipeline, declared in studies/NAME.yaml and run as DVC experiments.

declare.py   the declaration of a study, and its experiments
queue.py     running them with DVC's queue
results.py   their results: one tidy CSV, a Markdown table and a plot
"""
