//! Which zeros the layers of a network get.

use anyhow::{Context, Result, ensure};
use clap::Args;
use prune::Recipe;
use sparsity::patterns::CHANNEL_GROUPS;
use sparsity::{Error, Layers, Setting, Structure, ThreeOfNine, check_fraction};

/// Zeros of the layers of a built-in network; each says how much.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Zeros {
    /// Zeros of 1x1 convolutions: 4x4:R (any RxC), unstructured:R, 2:4
    #[arg(long, value_name = "ZEROS", value_parser = |text: &str| Layers::Others.parse(text, true))]
    pub(crate) conv1x1: Option<Setting>,
    /// Zeros of depthwise 3x3 convolutions: 3:9, 3:9/N, 3:9+F
    #[arg(long, value_name = "ZEROS", value_parser = depthwise)]
    pub(crate) dwconv3x3: Option<Setting>,
    /// Zeros of 3x3 convolutions: 5:9, 5:9:R, 5:9/N, or as --conv1x1
    #[arg(long, value_name = "ZEROS", value_parser = |text: &str| Layers::Conv3x3.parse(text, true))]
    pub(crate) conv3x3: Option<Setting>,
    /// Zeros of fully connected layers, as --conv1x1
    #[arg(long, value_name = "ZEROS", value_parser = |text: &str| Layers::Others.parse(text, true))]
    pub(crate) fc: Option<Setting>,
}

/// What is wanted of the layers of a model, as `prune` and `whatif` take it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Fraction of the groups to remove, but of depthwise and 3x3 layers
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    pub(crate) ratio: Option<f64>,
    /// RxC, as in 4x4 or 4x4:0.5, unstructured, 2:4 or none [default: 4x4]
    #[arg(long, value_name = "ZEROS", value_parser = others)]
    pub(crate) conv1x1: Option<Setting>,
    /// As --conv1x1, for fully connected layers
    #[arg(long, value_name = "ZEROS", value_parser = others)]
    pub(crate) fc: Option<Setting>,
    /// 3:9 (3:9/8: fewer channels share it) or none [default: none]
    #[arg(long, value_name = "ZEROS", value_parser = depthwise)]
    pub(crate) dwconv3x3: Option<Setting>,
    /// Fraction of the depthwise groups, those that lose most, left dense
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    pub(crate) full_ones: Option<f64>,
    /// 5:9 (5:9/2, 5:9/1: fewer filters share it), RxC, none [default: none]
    #[arg(long, value_name = "ZEROS", value_parser = |text: &str| Layers::Conv3x3.parse(text, false))]
    pub(crate) conv3x3: Option<Setting>,
    /// As --conv1x1, for other kernels, 1-D and grouped ones [default: 4x1]
    #[arg(long, value_name = "ZEROS", value_parser = others)]
    pub(crate) conv: Option<Setting>,
    /// As --conv1x1, for transposed convolutions [default: none]
    #[arg(long, value_name = "ZEROS", value_parser = others)]
    pub(crate) convtranspose: Option<Setting>,
    /// As --conv1x1, for the matrices of GRU, LSTM and RNN, gate by gate
    #[arg(long, value_name = "ZEROS", value_parser = others)]
    pub(crate) recurrent: Option<Setting>,
    /// Fraction of the groups of 3x3 convolutions to remove, with --conv3x3
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    pub(crate) connectivity: Option<f64>,
}

/// Zeros of layers other than 3x3 convolutions; something else may say how much.
fn others(text: &str) -> Result<Setting, Error> {
    Layers::Others.parse(text, false)
}

/// Patterns of depthwise kernels.
pub(crate) fn depthwise(text: &str) -> Result<Setting, Error> {
    Layers::Depthwise3x3.parse(text, true)
}

impl Settings {
    /// The options for kinds of layers.
    fn given(&self) -> [(&'static str, Option<Setting>); 7] {
        [
            ("conv1x1", self.conv1x1),
            ("fc", self.fc),
            ("dwconv3x3", self.dwconv3x3),
            ("conv3x3", self.conv3x3),
            ("conv", self.conv),
            ("convtranspose", self.convtranspose),
            ("recurrent", self.recurrent),
        ]
    }

    /// Whether anything is wanted.
    pub(crate) fn any(&self) -> bool {
        let numbers = [self.ratio, self.full_ones, self.connectivity];
        numbers.iter().any(Option::is_some) || self.given().iter().any(|(_, setting)| setting.is_some())
    }

    /// Fails if a structure is given and nothing says how much of it is to go.
    pub(crate) fn check_complete(&self) -> Result<()> {
        for (option, setting) in self.given() {
            let Some(zeros) = setting.and_then(Setting::zeros) else { continue };
            let by_option = self.ratio.is_some() || (option == "conv3x3" && self.connectivity.is_some());
            ensure!(
                zeros.is_complete() || by_option,
                "--{option} {zeros}: no ratio, as in --{option} {zeros}:0.5 or --ratio 0.5"
            );
        }
        Ok(())
    }

    /// A recipe with what is given in the place of its entries.
    pub(crate) fn recipe(&self, mut recipe: Recipe) -> Result<Recipe> {
        let set = |to: &mut Setting, from: Option<Setting>| *to = from.unwrap_or(*to);
        set(&mut recipe.conv1x1, self.conv1x1);
        set(&mut recipe.fc, self.fc);
        set(&mut recipe.dwconv3x3, self.dwconv3x3);
        set(&mut recipe.conv3x3, self.conv3x3);
        set(&mut recipe.conv, self.conv);
        set(&mut recipe.convtranspose, self.convtranspose);
        set(&mut recipe.recurrent, self.recurrent);
        recipe.ratio = self.ratio.or(recipe.ratio);
        // an option replaces an entry that says how much, too
        let own = |setting: Setting| setting.zeros().is_some_and(|zeros| zeros.ratio().is_some());
        if self.conv3x3.is_some_and(own) {
            recipe.connectivity = None;
        } else if let (Some(_), Some(zeros)) = (self.connectivity, recipe.conv3x3.zeros()) {
            recipe.conv3x3 = zeros.structure().into();
        }
        recipe.connectivity = self.connectivity.or(recipe.connectivity);
        if let Some(full_ones) = self.full_ones {
            check_fraction("fraction", full_ones).context("--full-ones")?;
            let of = |setting: Setting| match setting.zeros()?.structure() {
                Structure::ThreeOfNine(patterns) => Some(patterns),
                _ => None,
            };
            let twice = self.dwconv3x3.and_then(of).is_some_and(|patterns| patterns.full_ones() > 0.0);
            ensure!(!twice, "--full-ones and --dwconv3x3 both say what stays dense");
            let channels = of(recipe.dwconv3x3).map_or(CHANNEL_GROUPS[0], ThreeOfNine::channels);
            recipe.dwconv3x3 = Structure::three_of_nine(channels, full_ones)?.into();
        }
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use crate::commands::Command;
    use clap::Parser;
    use proptest::prelude::*;
    use prune::Recipe;
    use sparsity::patterns::CHANNEL_GROUPS;
    use sparsity::{FiveOfNine, Layers, Setting, Structure, Zeros};

    #[test]
    fn options_replace_entries_of_a_recipe() {
        let made = |options: &str, recipe: &str| {
            let words = ["tract-sparse", "m.onnx", "prune", "-o", "p.onnx"].into_iter();
            let Command::Prune(prune) = Cli::parse_from(words.chain(options.split_whitespace())).command
            else {
                panic!("{options}");
            };
            let recipe = prune.args.zeros.recipe(recipe.parse().unwrap())?;
            recipe.check().map(|()| recipe)
        };
        let is = |options: &str, recipe: &str, wanted: &str| {
            assert_eq!(made(options, recipe).unwrap(), wanted.parse().unwrap(), "{options} {recipe}");
        };
        is("--conv1x1 4x1:0.5", "conv1x1 = \"4x4:0.1\"", "conv1x1 = \"4x1:0.5\"");
        is("--conv3x3 5:9:0.5", "conv3x3 = \"5:9\"\nconnectivity = 0.1", "conv3x3 = \"5:9:0.5\"");
        is("--connectivity 0.5", "conv3x3 = \"5:9/2:0.1\"", "conv3x3 = \"5:9/2\"\nconnectivity = 0.5");
        is("--full-ones 0.5", "dwconv3x3 = \"3:9/8+0.1\"", "dwconv3x3 = \"3:9/8+0.5\"");
        is("--full-ones 0.5 --dwconv3x3 3:9/4", "", "dwconv3x3 = \"3:9/4+0.5\"");
        is("--full-ones 0.5", "", "dwconv3x3 = \"3:9+0.5\"");
        for twice in ["--conv3x3 5:9:0.5 --connectivity 0.5", "--dwconv3x3 3:9+0.1 --full-ones 0.5"] {
            let error = made(twice, "").unwrap_err().to_string();
            assert!(error.contains("both say"), "{error}");
        }
    }

    /// Zeros as `inspect` and `zoo` print them: blocks have a ratio.
    fn printed() -> impl Strategy<Value = Zeros> {
        let share = || prop_oneof![0.0..=1.0f64, (0..=100u32).prop_map(|percent| f64::from(percent) / 100.0)];
        let blocks = (1..=64usize, 1..=64usize, share())
            .prop_map(|(r, c, ratio)| Zeros::new(Structure::blocks(r, c).unwrap(), ratio).unwrap());
        let three = (prop::sample::select(&CHANNEL_GROUPS[..]), share())
            .prop_map(|(n, full)| Structure::three_of_nine(n, full).unwrap().into());
        let five = (prop::sample::select(&FiveOfNine::FILTERS[..]), prop::option::of(share())).prop_map(
            |(n, ratio)| {
                let structure = Structure::five_of_nine(n).unwrap();
                ratio.map_or(structure.into(), |ratio| Zeros::new(structure, ratio).unwrap())
            },
        );
        prop_oneof![blocks, Just(Structure::TwoOfFour.into()), three, five]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Every option of every command that takes such zeros, and recipes.
        #[test]
        fn what_is_printed_is_read_as_the_same(zeros in printed()) {
            let wanted = Some(Setting::from(zeros));
            for (option, layers, in_zoo) in [
                ("conv1x1", Layers::Others, true),
                ("fc", Layers::Others, true),
                ("dwconv3x3", Layers::Depthwise3x3, true),
                ("conv3x3", Layers::Conv3x3, true),
                ("conv", Layers::Others, false),
                ("convtranspose", Layers::Others, false),
                ("recurrent", Layers::Others, false),
            ] {
                let (flag, text) = (format!("--{option}"), zeros.to_string());
                let takes = layers.take(zeros.structure());
                let parse = |line: &[&str]| {
                    let words = ["tract-sparse"].iter().chain(line).copied().chain([&*flag, &*text]);
                    Cli::try_parse_from(words).map(|cli| cli.command)
                };
                let of = |settings: &super::Settings| {
                    settings.given().iter().find(|(name, _)| *name == option).and_then(|(_, setting)| *setting)
                };
                match parse(&["m.onnx", "prune", "-o", "p.onnx"]) {
                    Ok(Command::Prune(prune)) => prop_assert_eq!(of(&prune.args.zeros), wanted),
                    _ => prop_assert!(!takes),
                }
                match parse(&["m.onnx", "whatif"]) {
                    Ok(Command::Whatif(whatif)) => prop_assert_eq!(of(&whatif.args.zeros), wanted),
                    _ => prop_assert!(!takes),
                }
                if in_zoo {
                    match parse(&["zoo", "resnet-20", "-o", "z.onnx"]) {
                        Ok(Command::Zoo(zoo)) => {
                            let got = zoo.zeros;
                            let all = [got.conv1x1, got.fc, got.dwconv3x3, got.conv3x3];
                            prop_assert_eq!(all.into_iter().flatten().next(), wanted);
                        }
                        _ => prop_assert!(!takes),
                    }
                }
                let recipe = format!("{option} = {text:?}").parse::<Recipe>();
                prop_assert_eq!(recipe.is_ok(), takes);
                if let Ok(recipe) = recipe {
                    let line = format!("{option} = {text:?}");
                    prop_assert!(recipe.to_string().contains(&line), "{}", line);
                    prop_assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
                }
            }
        }
    }
}
