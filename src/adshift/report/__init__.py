"""Everything after evaluation: tables, plots, pictures and the HTML page. No torch, no pyplot."""
