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
///     ratio = 0.3             # of the groups of 1x1 convolutions and fully connected layers
///     scope = "global"        # or "uniform"
///     conv1x1 = "4x4"         # or 4x1, 8x1, unstructured, 2:4, none ...
///     fc = "none"
///     dwconv3x3 = "3:9"       # or 3:9+0.1: a tenth of the channel groups stays dense
///     conv3x3 = "5:9"         # or 5:9/2, 5:9/1: filters that share a pattern
///     connectivity = 0.5      # of the groups of 3x3 convolutions
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
    /// Fraction of the groups of 1x1 convolutions and fully connected layers to remove.
    pub ratio: f64,
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
    /// Fraction of the groups of 3x3 convolutions to remove.
    pub connectivity: f64,
    /// Only layers whose name matches one of these; all if there are none.
    pub include: Vec<String>,
    /// No layer whose name matches one of these.
    pub exclude: Vec<String>,
    /// Layers that differ; the last rule that matches a layer counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<Rule>,
}

impl Default for Recipe {
    /// The paper's structures, and no group removed.
    fn default() -> Recipe {
        Recipe {
            ratio: 0.0,
            scope: Scope::Uniform,
            conv1x1: Setting(Some(Structure::Blocks { r: 4, c: 4 })),
            fc: Setting(Some(Structure::Blocks { r: 4, c: 4 })),
            dwconv3x3: Setting(Some(Structure::ThreeOfNine { full_ones: 0.0 })),
            conv3x3: Setting(Some(Structure::FiveOfNine { share: 4 })),
            connectivity: 0.0,
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
        check_ratio(self.ratio)?;
        check_ratio(self.connectivity).context("connectivity")?;
        for rule in &self.layer {
            rule.ratio.map_or(Ok(()), check_ratio).with_context(|| format!("layer {:?}", rule.name))?;
        }
        for (entry, role, setting) in [
            ("conv1x1", Role::Pointwise, self.conv1x1),
            ("fc", Role::FullyConnected, self.fc),
            ("dwconv3x3", Role::Depthwise, self.dwconv3x3),
            ("conv3x3", Role::Conv3x3, self.conv3x3),
        ] {
            if let Setting(Some(structure)) = setting {
                ensure!(fits(structure, role), "{entry} = {setting}: not a structure for {role}");
            }
        }
        Ok(())
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
            let general = match layer.role {
                Role::Pointwise => Some((self.conv1x1, self.ratio)),
                Role::FullyConnected => Some((self.fc, self.ratio)),
                Role::Depthwise => Some((self.dwconv3x3, 0.0)),
                Role::Conv3x3 => Some((self.conv3x3, self.connectivity)),
                Role::Other => None,
            };
            if layer.role == Role::Conv3x3 && layer.shape.ic < 4 && ruled.is_none() {
                return Ok(Err(format!("{} input channels are fewer than a group", layer.shape.ic)));
            }
            let Some(Setting(setting)) = ruled.or(general.map(|g| g.0)) else {
                let kernel: Vec<String> = layer.kernel.iter().map(usize::to_string).collect();
                return Ok(Err(format!("the recipe has nothing for {} of {}", kernel.join("x"), layer.role)));
            };
            let Some(structure) = setting else { return Ok(Err("the recipe leaves it dense".into())) };
            ensure!(
                fits(structure, layer.role),
                "layer {}: {structure} is not for {}",
                layer.name,
                layer.role
            );
            let ratio = matching().find_map(|(rule, _)| rule.ratio);
            let fixed = ratio.is_some();
            Ok(Ok(Wish { structure, ratio: ratio.unwrap_or(general.map_or(self.ratio, |g| g.1)), fixed }))
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
