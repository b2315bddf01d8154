//! Recipes and the small grammars of the command line: what is accepted is written so that it reads as the
//! same.

use arbitrary::{Arbitrary, Unstructured};
use prune::{Recipe, Setting, Structure, Zeros};
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Whether the text is accepted; then what it means must survive being written.
fn round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse::<T>().expect(&written), value, "{written}");
    }
}

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let Ok(text) = <&str>::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    crate::within((1 << 20) + 4096 * text.len(), || {
        round_trip::<Recipe>(text);
        round_trip::<Setting>(text);
        round_trip::<Structure>(text);
        round_trip::<Zeros>(text);
        round_trip::<zoo::Batch>(text);
        round_trip::<zoo::Network>(text);
        let _ = sparse_kernels::target::Target::named(text);
    });
}
