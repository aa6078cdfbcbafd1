"""What a study found, drawn: tables, figures and one Markdown page. Reads experiments, changes nothing."""
