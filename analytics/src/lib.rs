//! Pure functions over samples and histories.
