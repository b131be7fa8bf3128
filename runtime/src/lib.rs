//! Recurve.
