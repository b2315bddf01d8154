//! What to prune, as a value, on the command line and in a file.

use crate::layer::{Layer, Role, Skip};
use crate::mask::{Structure, check_ratio};
use anyhow::{Context, Result, ensure};
use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A structure, or `none` for layers that stay dense.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Setting(pub Option<Structure>);

impl FromStr for Setting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Setting> {
        if text == "none" { Ok(Setting(None)) } else { Ok(Setting(Some(text.parse()?))) }
    }
}

impl TryFrom<String> for Setting {
    type Error = String;

    fn try_from(text: String) -> Result<Setting, String> {
        text.parse().map_err(|error: anyhow::Error| format!("{error:#}"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(structure) => structure.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl From<Setting> for String {
    fn from(setting: Setting) -> String {
        setting.to_string()
    }
}

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
    /// A glob over layer names.
    pub name: String,
    /// Fraction of the groups to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Structure of these layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Setting>,
}

/// What to prune: the contents of `recipe.toml`.
///
/// ```
/// let recipe: prune::Recipe = r#"
///     ratio = 0.3             # of the groups of all layers but depthwise and 3x3 ones
///     scope = "global"        # or "uniform"
///     conv1x1 = "4x4"         # or 4x1, 8x1, unstructured, 2:4, none ...
///     fc = "none"
///     dwconv3x3 = "3:9"       # or 3:9+0.1: a tenth of the channel groups stays dense
///     conv3x3 = "5:9"         # or 5:9/2, 5:9/1: filters that share a pattern
///     connectivity = 0.5      # of the groups of 3x3 convolutions
///     conv = "4x1"            # other kernels (1x3, 5x5, 1-D) and grouped convolutions; every tap counts as a channel
///     convtranspose = "4x1"   # transposed convolutions, none unless asked for
///     recurrent = "4x4"       # matrices of GRU, LSTM and RNN, gate by gate
///     exclude = ["conv1", "head*"]
///
///     [[layer]]
///     name = "block3*"
///     ratio = 0.5
///     structure = "4x1"
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
    /// Structure of 1x1 convolutions.
    pub conv1x1: Setting,
    /// Structure of fully connected layers.
    pub fc: Setting,
    /// Structure of depthwise 3x3 convolutions.
    pub dwconv3x3: Setting,
    /// Structure of 3x3 convolutions.
    pub conv3x3: Setting,
    /// Fraction of the groups of 3x3 convolutions to remove; with patterns none, with blocks `ratio` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<f64>,
    /// Structure of convolutions with other kernels, and of grouped ones.
    pub conv: Setting,
    /// Structure of transposed convolutions.
    pub convtranspose: Setting,
    /// Structure of the matrices of recurrent layers.
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
    /// Blocks for everything that `ratio` is for but transposed convolutions, no patterns, and nothing asked for yet.
    fn default() -> Recipe {
        let blocks = |c| Setting(Some(Structure::Blocks { r: 4, c }));
        Recipe {
            ratio: None,
            scope: Scope::Uniform,
            conv1x1: blocks(4),
            fc: blocks(4),
            dwconv3x3: Setting(None),
            conv3x3: Setting(None),
            connectivity: None,
            conv: blocks(1),
            convtranspose: Setting(None),
            recurrent: blocks(4),
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
    /// Whether a rule gives the ratio, so that no threshold over layers changes it.
    pub fixed: bool,
}

impl Recipe {
    /// Refuses ratios outside 0..=1 and structures for the wrong operator.
    ///
    /// # Errors
    /// Names the entry.
    pub fn check(&self) -> Result<()> {
        self.ratio.map_or(Ok(()), check_ratio)?;
        self.connectivity.map_or(Ok(()), check_ratio).context("connectivity")?;
        ensure!(
            self.connectivity.is_none() || self.conv3x3.0.is_some(),
            "connectivity removes groups of 3x3 kernels: conv3x3 must say which, 5:9 (patterns as well) or 4x4"
        );
        for rule in &self.layer {
            rule.ratio.map_or(Ok(()), check_ratio).with_context(|| format!("layer {:?}", rule.name))?;
        }
        for (entry, role, setting) in [
            ("conv1x1", Role::Pointwise, self.conv1x1),
            ("fc", Role::FullyConnected, self.fc),
            ("dwconv3x3", Role::Depthwise, self.dwconv3x3),
            ("conv3x3", Role::Conv3x3, self.conv3x3),
            ("conv", Role::Other, self.conv),
            ("convtranspose", Role::Transposed, self.convtranspose),
            ("recurrent", Role::Recurrent, self.recurrent),
        ] {
            if let Setting(Some(structure)) = setting {
                ensure!(fits(structure, role), "{entry} = {setting}: not a structure for {role}");
            }
        }
        Ok(())
    }

    /// Whether it says how much to prune of any layer: a ratio, or a structure that needs none.
    pub fn asks(&self) -> bool {
        let patterns = |setting: Setting| {
            setting.0.is_some_and(|s| !s.removes_groups() || matches!(s, Structure::FiveOfNine { .. }))
        };
        let settings = [
            self.conv1x1,
            self.fc,
            self.dwconv3x3,
            self.conv3x3,
            self.conv,
            self.convtranspose,
            self.recurrent,
        ];
        let rule = |rule: &Rule| rule.ratio.is_some() || rule.structure.is_some_and(patterns);
        let ratio = self.ratio.is_some() || self.connectivity.is_some();
        ratio || settings.into_iter().any(patterns) || self.layer.iter().any(rule)
    }

    /// What to do with each layer, in their order: a wish, or why it is left alone.
    ///
    /// # Errors
    /// A glob that is malformed or matches no layer, a ratio outside 0..=1, a rule whose structure does not fit a
    /// layer that it matches.
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
                return Ok(Err(format!("excluded by {:?}", glob.0.glob().glob())));
            }
            let matching = || self.layer.iter().zip(&rules).rev().filter(|(_, g)| g.matches(&layer.name));
            let ruled = matching().find_map(|(rule, _)| rule.structure);
            let (option, general, general_ratio) = match layer.role {
                Role::Pointwise => ("conv1x1", self.conv1x1, self.ratio),
                Role::FullyConnected => ("fc", self.fc, self.ratio),
                Role::Depthwise => ("dwconv3x3", self.dwconv3x3, None),
                Role::Conv3x3 => ("conv3x3", self.conv3x3, self.connectivity),
                Role::Transposed => ("convtranspose", self.convtranspose, self.ratio),
                Role::Recurrent => ("recurrent", self.recurrent, self.ratio),
                Role::Other => ("conv", self.conv, self.ratio),
            };
            let kernel = || layer.kernel.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            if layer.role == Role::Other && layer.shape.ic == 1 && layer.shape.parts > 1 && ruled.is_none() {
                return Ok(Err(format!("there are no patterns for depthwise kernels of {}", kernel())));
            }
            let Setting(Some(structure)) = ruled.unwrap_or(general) else {
                return Ok(Err(format!("the recipe leaves it dense: {option} = \"none\"")));
            };
            let patterns = matches!(structure, Structure::FiveOfNine { .. });
            if patterns && layer.shape.ic < 4 && ruled.is_none() {
                return Ok(Err(format!("{} input channels are fewer than a group", layer.shape.ic)));
            }
            ensure!(
                fits(structure, layer.role),
                "layer {}: {structure} is not for {}",
                layer.name,
                layer.role
            );
            let own = matching().find_map(|(rule, _)| rule.ratio);
            let fixed = own.is_some();
            let ratio = own.or(general_ratio).or(if patterns { Some(0.0) } else { self.ratio });
            let ratio = if structure.removes_groups() { ratio } else { Some(ratio.unwrap_or(0.0)) };
            let Some(ratio) = ratio else {
                return Ok(Err("nothing says how much of it to remove (--ratio, --layer)".into()));
            };
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

fn fits(structure: Structure, role: Role) -> bool {
    match structure {
        Structure::Blocks { .. } | Structure::TwoOfFour => role != Role::Depthwise,
        Structure::ThreeOfNine { .. } => role == Role::Depthwise,
        Structure::FiveOfNine { .. } => role == Role::Conv3x3,
    }
}

struct Matcher(GlobMatcher);

impl Matcher {
    fn new(glob: &str, layers: &[Result<Layer, Skip>]) -> Result<Matcher> {
        let compiled = Glob::new(glob).with_context(|| format!("{glob:?} is not a glob"))?;
        let matcher = Matcher(compiled.compile_matcher());
        let name = |layer: &Result<Layer, Skip>| match layer {
            Ok(layer) => matcher.matches(&layer.name),
            Err(skip) => matcher.matches(&skip.name),
        };
        ensure!(layers.iter().any(name), "{glob:?} matches none of the {} layers", layers.len());
        Ok(matcher)
    }

    /// Names are plain text: a glob's `*` also crosses the slashes that exporters put into them.
    fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}
