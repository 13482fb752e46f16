"""What packaging/ holds and makes, checked as its users' tools would check it."""
