"""The five research questions, answered by cells that a killed run takes up again: see docs/STUDY.md."""
