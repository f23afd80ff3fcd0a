"""What is sent, by whom: lengths, questions, words, attachments, the workload file, traces, sums of clients."""
