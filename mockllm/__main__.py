"""`python -m mockllm`: the same as the `mockllm` command."""

from mockllm.cli import main

main()
