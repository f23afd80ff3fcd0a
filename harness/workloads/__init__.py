"""What is asked, by whom: lengths, questions, words, attachments, and the workload file."""
