"""What runs inside a step's kernel; shipped there as source."""
