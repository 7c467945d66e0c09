//! The snapshot format, damaged in every way.
