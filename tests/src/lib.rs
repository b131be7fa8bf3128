//! Test suites of Recurve.
