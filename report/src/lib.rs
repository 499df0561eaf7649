//! Pure rendering of runs: tables, JSON, CSV, Markdown.
