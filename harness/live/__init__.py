"""What can be seen of a run while it goes: mergeable statistics, and words for them."""
