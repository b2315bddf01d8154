//! Nothing lost: files that are replaced, files that others name.
