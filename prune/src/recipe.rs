//! What to prune, as a value, on the command line and in a file.

use crate::layer::{Layer, Role, Skip};
use anyhow::{Context, Result, bail, ensure};
use glob::Pattern;
use serde::{Deserialize, Serialize};
use sparsity::{Setting, Structure, Zeros, check_fraction};
use std::fmt;
use std::str::FromStr;

/// How a ratio is spread over layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The same ratio in every layer.
    #[default]
    Uniform,
    /// One threshold over all layers, on the l1 norm of a group relative to the mean of its layer.
    Global,
}

/// What differs for the layers whose name matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A glob over layer names: `*`, `?`, `[a-z]`.
    pub name: String,
    /// Fraction of the groups to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Zeros of these layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Setting>,
}

impl Rule {
    /// The ratio, wherever the rule says it.
    fn ratio(&self) -> Option<f64> {
        self.ratio.or_else(|| self.structure?.zeros()?.ratio())
    }
}

/// What to prune: the contents of `recipe.toml`. Zeros are written as everywhere, see [`sparsity`]; a ratio
/// behind a structure goes before `ratio` and `connectivity`.
///
/// ```
/// let recipe: prune::Recipe = r#"
///     ratio = 0.3             # of the groups of all layers but depthwise and 3x3 ones
///     scope = "global"        # or "uniform"
///     conv1x1 = "4x4"         # or 4x1, 8x1, unstructured, 2:4, none; 4x4:0.5 has a ratio of its own
///     fc = "none"
///     dwconv3x3 = "3:9"       # or 3:9+0.1: a tenth of the channel groups stays dense; 3:9/8: smaller groups
///     conv3x3 = "5:9:0.5"     # or 5:9/2, 5:9/1: filters that share a pattern; half of the groups of kernels go besides
///     conv = "4x1"            # other kernels (1x3, 5x5, 1-D) and grouped convolutions; every tap counts as a channel
///     convtranspose = "4x1"   # transposed convolutions, none unless asked for
///     recurrent = "4x4"       # matrices of GRU, LSTM and RNN, gate by gate
///     exclude = ["conv1", "head*"]
///
///     [[layer]]
///     name = "block3*"
///     structure = "4x1:0.5"
/// "#.parse()?;
/// assert_eq!(recipe.to_string().parse::<prune::Recipe>()?, recipe);
/// # anyhow::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Fraction of the groups to remove, of all layers but depthwise ones and 3x3 ones with patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// How it is spread over layers.
    pub scope: Scope,
    /// Zeros of 1x1 convolutions.
    pub conv1x1: Setting,
    /// Zeros of fully connected layers.
    pub fc: Setting,
    /// Zeros of depthwise 3x3 convolutions.
    pub dwconv3x3: Setting,
    /// Zeros of 3x3 convolutions.
    pub conv3x3: Setting,
    /// Fraction of the groups of 3x3 convolutions to remove, if `conv3x3` does not say it; with patterns
    /// none, with blocks `ratio` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<f64>,
    /// Zeros of convolutions with other kernels, and of grouped ones.
    pub conv: Setting,
    /// Zeros of transposed convolutions.
    pub convtranspose: Setting,
    /// Zeros of the matrices of recurrent layers.
    pub recurrent: Setting,
    /// Only layers whose name matches one of these; all if there are none.
    pub include: Vec<String>,
    /// No layer whose name matches one of these.
    pub exclude: Vec<String>,
    /// Layers that differ; the last rule that matches a layer counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<Rule>,
}

impl Default for Recipe {
    /// Blocks for everything that `ratio` is for but transposed convolutions, no patterns, and nothing asked
    /// for yet.
    fn default() -> Recipe {
        Recipe {
            ratio: None,
            scope: Scope::Uniform,
            conv1x1: Structure::BLOCKS_4X4.into(),
            fc: Structure::BLOCKS_4X4.into(),
            dwconv3x3: Setting::NONE,
            conv3x3: Setting::NONE,
            connectivity: None,
            conv: Structure::BLOCKS_4X1.into(),
            convtranspose: Setting::NONE,
            recurrent: Structure::BLOCKS_4X4.into(),
            include: vec![],
            exclude: vec![],
            layer: vec![],
        }
    }
}

impl FromStr for Recipe {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Recipe> {
        let recipe: Recipe = toml::from_str(text).context("not a recipe")?;
        recipe.check()?;
        Ok(recipe)
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What a recipe says about one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Structure.
    pub structure: Structure,
    /// Fraction of its groups to remove.
    pub ratio: f64,
    /// Whether the ratio is said of this layer or its kind, so that neither a threshold over layers nor a
    /// budget changes it.
    pub fixed: bool,
}

impl Recipe {
    /// The entries for kinds of layers.
    fn settings(&self) -> [(&'static str, Role, Setting); 7] {
        [
            ("conv1x1", Role::Pointwise, self.conv1x1),
            ("fc", Role::FullyConnected, self.fc),
            ("dwconv3x3", Role::Depthwise, self.dwconv3x3),
            ("conv3x3", Role::Conv3x3, self.conv3x3),
            ("conv", Role::Other, self.conv),
            ("convtranspose", Role::Transposed, self.convtranspose),
            ("recurrent", Role::Recurrent, self.recurrent),
        ]
    }

    /// Refuses ratios outside 0..=1, two ratios for the same layers and structures for the wrong operator.
    ///
    /// # Errors
    /// Names the entry.
    pub fn check(&self) -> Result<()> {
        let fraction = |value: Option<f64>| value.map_or(Ok(()), |value| check_fraction("ratio", value));
        fraction(self.ratio)?;
        fraction(self.connectivity).context("connectivity")?;
        if self.connectivity.is_some() {
            let Some(zeros) = self.conv3x3.zeros() else {
                bail!(
                    "connectivity removes groups of 3x3 kernels: conv3x3 must say which, 5:9 (patterns as well) or 4x4"
                )
            };
            ensure!(
                zeros.ratio().is_none(),
                "connectivity and conv3x3 = {zeros} both say how much to remove"
            );
        }
        for rule in &self.layer {
            let name = || format!("layer {:?}", rule.name);
            fraction(rule.ratio).with_context(name)?;
            if let Some((structure, _)) = rule.structure.zip(rule.ratio) {
                let twice = structure.zeros().is_some_and(|zeros| zeros.ratio().is_some());
                ensure!(!twice, "{}: ratio and structure = {structure} both say how much to remove", name());
            }
        }
        for (entry, role, setting) in self.settings() {
            if let Some(zeros) = setting.zeros() {
                let layers = role.layers();
                ensure!(
                    layers.take(zeros.structure()),
                    "{entry} = {setting}: not a structure for {role}; expected {} or none",
                    layers.allowed()
                );
            }
        }
        Ok(())
    }

    /// Whether it says how much to prune of any layer: a ratio, or a structure that needs none.
    pub fn asks(&self) -> bool {
        let complete = |setting: Setting| setting.zeros().is_some_and(Zeros::is_complete);
        let rule = |rule: &Rule| rule.ratio.is_some() || rule.structure.is_some_and(complete);
        let ratio = self.ratio.is_some() || self.connectivity.is_some();
        ratio
            || self.settings().into_iter().any(|(.., setting)| complete(setting))
            || self.layer.iter().any(rule)
    }

    /// What to do with each layer, in their order: a wish, or why it is left alone.
    ///
    /// # Errors
    /// A glob that is malformed or matches no layer, a ratio outside 0..=1, a rule whose structure does not
    /// fit a layer that it matches.
    pub fn wishes(&self, layers: &[Result<Layer, Skip>]) -> Result<Vec<Result<Wish, String>>> {
        self.check()?;
        let globs =
            |globs: &[String]| globs.iter().map(|g| Matcher::new(g, layers)).collect::<Result<Vec<_>>>();
        let (include, exclude) = (globs(&self.include)?, globs(&self.exclude)?);
        let rules: Vec<String> = self.layer.iter().map(|rule| rule.name.clone()).collect();
        let rules = globs(&rules)?;
        let wish = |layer: &Layer| -> Result<Result<Wish, String>> {
            if !include.is_empty() && !include.iter().any(|g| g.matches(&layer.name)) {
                return Ok(Err("not among the layers to include".into()));
            }
            if let Some(glob) = exclude.iter().find(|g| g.matches(&layer.name)) {
                return Ok(Err(format!("excluded by {:?}", glob.0.as_str())));
            }
            let matching = || self.layer.iter().zip(&rules).rev().filter(|(_, g)| g.matches(&layer.name));
            let ruled = matching().find_map(|(rule, _)| rule.structure);
            let of_role = self.settings().into_iter().find(|(_, role, _)| *role == layer.role);
            let (option, _, general) = of_role.context("a layer of no role")?;
            let kernel = || layer.kernel.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            if layer.role == Role::Other && layer.shape.ic == 1 && layer.shape.parts > 1 && ruled.is_none() {
                return Ok(Err(format!("there are no patterns for depthwise kernels of {}", kernel())));
            }
            let Some(structure) = ruled.unwrap_or(general).zeros().map(Zeros::structure) else {
                return Ok(Err(format!("the recipe leaves it dense: {option} = \"none\"")));
            };
            let patterns = matches!(structure, Structure::FiveOfNine(_));
            if patterns && layer.shape.ic < 4 && ruled.is_none() {
                return Ok(Err(format!("{} input channels are fewer than a group", layer.shape.ic)));
            }
            ensure!(
                layer.role.layers().take(structure),
                "layer {}: {structure} is not for {}",
                layer.name,
                layer.role
            );
            // the ratio of blocks is one for the blocks of a rule, too
            let with_general = ruled.is_none() || structure.needs_ratio();
            let of_general = general.zeros().and_then(Zeros::ratio).filter(|_| with_general);
            let own = matching().find_map(|(rule, _)| rule.ratio()).or(of_general);
            let connectivity = self.connectivity.filter(|_| layer.role == Role::Conv3x3);
            let otherwise = if structure.needs_ratio() { self.ratio } else { Some(0.0) };
            let Some(ratio) = own.or(connectivity).or(otherwise) else {
                return Ok(Err("nothing says how much of it to remove (4x4:R, --ratio, --layer)".into()));
            };
            let fixed = own.is_some();
            Ok(Ok(Wish { structure, ratio, fixed }))
        };
        layers
            .iter()
            .map(|layer| match layer {
                Ok(layer) => wish(layer),
                Err(skip) => Ok(Err(skip.reason.clone())),
            })
            .collect()
    }
}

struct Matcher(Pattern);

impl Matcher {
    fn new(glob: &str, layers: &[Result<Layer, Skip>]) -> Result<Matcher> {
        let matcher = Matcher(Pattern::new(glob).with_context(|| format!("{glob:?} is not a glob"))?);
        let name = |layer: &Result<Layer, Skip>| match layer {
            Ok(layer) => matcher.matches(&layer.name),
            Err(skip) => matcher.matches(&skip.name),
        };
        ensure!(layers.iter().any(name), "{glob:?} matches none of the {} layers", layers.len());
        Ok(matcher)
    }

    /// Names are plain text: a glob's `*` also crosses the slashes that exporters put into them.
    fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}
