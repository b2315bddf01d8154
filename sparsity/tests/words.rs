//! What is printed is read as the same, and what is wrong is refused with what is allowed.

use proptest::prelude::*;
use sparsity::patterns::CHANNEL_GROUPS;
use sparsity::{FiveOfNine, Layers, Setting, Structure, Zeros};

fn fraction() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0f64, (0..=100u32).prop_map(|percent| f64::from(percent) / 100.0)]
}

fn structure() -> impl Strategy<Value = Structure> {
    let blocks = (1..=64usize, 1..=64usize).prop_map(|(r, c)| Structure::blocks(r, c).unwrap());
    let three = (prop::sample::select(&CHANNEL_GROUPS[..]), fraction())
        .prop_map(|(channels, full_ones)| Structure::three_of_nine(channels, full_ones).unwrap());
    let five =
        prop::sample::select(&FiveOfNine::FILTERS[..]).prop_map(|n| Structure::five_of_nine(n).unwrap());
    prop_oneof![blocks, Just(Structure::UNSTRUCTURED), Just(Structure::TwoOfFour), three, five]
}

fn zeros() -> impl Strategy<Value = Zeros> {
    (structure(), prop::option::of(fraction())).prop_map(|(structure, ratio)| match ratio {
        Some(ratio) if structure.removes_groups() => Zeros::new(structure, ratio).unwrap(),
        _ => structure.into(),
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(zeros in zeros()) {
        let text = zeros.to_string();
        prop_assert_eq!(text.parse::<Zeros>().unwrap(), zeros, "{}", text);
        prop_assert_eq!(text.parse::<Setting>().unwrap(), Setting::from(zeros));
        prop_assert_eq!(zeros.structure().to_string().parse::<Structure>().unwrap(), zeros.structure());
        for layers in Layers::ALL {
            let read = layers.parse(&text, true);
            prop_assert_eq!(read.is_ok(), layers.take(zeros.structure()) && zeros.is_complete());
            prop_assert!(read.is_err() || read.unwrap().zeros() == Some(zeros));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9x:/+.a-z-]{0,12}") {
        if let Ok(setting) = text.parse::<Setting>() {
            prop_assert_eq!(setting.to_string().parse::<Setting>().unwrap(), setting);
        }
    }
}

#[test]
fn words_print_as_they_are_written() {
    for text in [
        "4x4:0.3",
        "4x1:0.5",
        "2x1:1",
        "8x1:0",
        "64x64",
        "unstructured",
        "unstructured:0.85",
        "2:4",
        "3:9",
        "3:9/8",
        "3:9+0.1",
        "3:9/1+0.25",
        "5:9",
        "5:9/2",
        "5:9/1:0.5",
        "5:9:0.5",
        "5:9:0",
        "none",
    ] {
        assert_eq!(text.parse::<Setting>().unwrap().to_string(), text);
    }
    for (text, canonical) in [
        ("1x1", "unstructured"),
        ("1x1:0.50", "unstructured:0.5"),
        ("5:9/4", "5:9"),
        ("3:9/16+0", "3:9"),
        ("3:9+0.50", "3:9+0.5"),
        ("5:9:0.50", "5:9:0.5"),
        ("4x4:-0", "4x4:0"),
        ("dense", "none"),
    ] {
        assert_eq!(text.parse::<Setting>().unwrap().to_string(), canonical, "{text}");
    }
}

#[test]
fn wrong_words_are_refused_by_their_text_and_with_what_is_allowed() {
    for text in [
        "",
        ":",
        "4x4:",
        "4x4:1.5",
        "4x4:-0.1",
        "4x4:nan",
        "4x4:x",
        "4x4:0.5:0.5",
        "0x4:0.5",
        "65x1",
        "axb:0.5",
        "4x4x4:0.5",
        "x:0.5",
        "4y4",
        "unstructured+0.5",
        "dense:0.5",
        "none:0.5",
        "2:4:0.5",
        "2:8",
        "2:40",
        "3:8",
        "3:9:0.5",
        "3:9/2",
        "3:9/",
        "3:9+",
        "3:9+2",
        "3:90",
        "3:9+0.5/8",
        "5:8",
        "5:9:",
        "5:9:2",
        "5:90",
        "5:9x",
        "5:9/3",
        "5:9/",
        "5:9+0.5",
        "99999999999999999999x1",
    ] {
        let error = text.parse::<Setting>().unwrap_err().to_string();
        let known = ["4x4:0.5", "2:4", "3:9/N", "5:9:R", "none"].iter().all(|word| error.contains(word));
        assert!(error.starts_with(&format!("{text:?}: ")) && known, "{error}");
    }
    let error = Layers::Conv3x3.parse("3:9", false).unwrap_err().to_string();
    assert!(error.contains("3:9 is not for 3x3 convolutions") && error.contains("5:9/N"), "{error}");
    assert!(!error.contains("3:9/N"), "{error}");
    let error = Layers::Others.parse("4x4", true).unwrap_err().to_string();
    assert!(error.contains("no ratio") && error.contains("4x4:0.5"), "{error}");
    assert!(Layers::Others.parse("4x4", false).is_ok() && Layers::Conv3x3.parse("5:9", true).is_ok());
    assert!(
        Zeros::new(Structure::TwoOfFour, 0.5).is_err() && Zeros::new(Structure::BLOCKS_4X4, 1.1).is_err()
    );
    assert!(Structure::three_of_nine(2, 0.0).is_err() && Structure::three_of_nine(8, f64::NAN).is_err());
}
