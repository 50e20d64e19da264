"""What the draws say: convergence, efficiency, and how near the infinite-width limit is."""
