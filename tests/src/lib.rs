//! Whole models: sparse answer = stock tract answer = golden answer.
