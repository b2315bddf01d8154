//! The same layers run sparse through every entry, and reports say what runs.
