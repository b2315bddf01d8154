//! Built-in networks with seeded random weights, written as ONNX: dense or pruned, batch normalisation
//! already folded.
//!
//! Untrained weights time and test an engine as well as trained ones as long as activations neither die nor
//! blow up. So a network is computed while it is built, in plain loops, on a seeded random image: after
//! pruning, every output channel of every layer is shifted and scaled to a second moment of about one. The
//! same seed gives the same bytes on every machine.
//!
//! ```
//! let spec = zoo::Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(32), ..zoo::Spec::default() };
//! let model = zoo::build(zoo::Network::by_name("mobilenet-v1")?, &spec)?;
//! assert!(model.graph.unwrap().node.iter().any(|node| node.name == "dw2"));
//! # anyhow::Ok(())
//! ```

mod builder;
mod forward;
mod networks;
pub mod proto;
mod spec;

pub use sparsity::{Structure, Zeros};
pub use spec::{Batch, Spec};
pub use tract_onnx::pb::ModelProto;

use anyhow::Result;
use prost::Message;
use std::path::Path;

/// A built-in network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// Depthwise separable convolutions (Howard et al. 2017).
    MobilenetV1,
    /// Inverted residuals (Sandler et al. 2018).
    MobilenetV2,
    /// Squeeze-and-excitation, hard-swish, 5x5 depthwise (Howard et al. 2019), the large variant.
    MobilenetV3Large,
    /// EfficientNet without squeeze-and-excitation, ReLU6, padding SAME_UPPER.
    EfficientnetLite0,
    /// 3x3 residual blocks for ImageNet (He et al. 2016).
    Resnet18,
    /// 3x3 residual blocks for CIFAR-10, shortcuts by 1x1 convolution.
    Resnet20,
}

impl Network {
    /// Every network.
    pub const ALL: [Network; 6] = [
        Network::MobilenetV1,
        Network::MobilenetV2,
        Network::MobilenetV3Large,
        Network::EfficientnetLite0,
        Network::Resnet18,
        Network::Resnet20,
    ];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Network::MobilenetV1 => "mobilenet-v1",
            Network::MobilenetV2 => "mobilenet-v2",
            Network::MobilenetV3Large => "mobilenet-v3-large",
            Network::EfficientnetLite0 => "efficientnet-lite0",
            Network::Resnet18 => "resnet-18",
            Network::Resnet20 => "resnet-20",
        }
    }

    /// The network of this name; case and the choice of `-` or `_` do not matter.
    ///
    /// # Errors
    /// No network has this name; the message lists those that exist.
    pub fn by_name(name: &str) -> Result<Network> {
        let wanted = name.to_ascii_lowercase().replace('_', "-");
        match Network::ALL.into_iter().find(|n| n.name() == wanted) {
            Some(network) => Ok(network),
            None => anyhow::bail!("unknown network {name:?}, expected one of: {}", names().join(", ")),
        }
    }

    /// Height and width of the input, unless a [`Spec`] says otherwise.
    pub fn hw(self) -> usize {
        if self == Network::Resnet20 { 32 } else { 224 }
    }

    /// Number of classes.
    pub fn classes(self) -> usize {
        if self == Network::Resnet20 { 10 } else { 1000 }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Network {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Network> {
        Network::by_name(name)
    }
}

/// The names of all networks.
pub fn names() -> Vec<&'static str> {
    Network::ALL.iter().map(|n| n.name()).collect()
}

/// Builds `network` as `spec` says: opset 13, IR version 8, f32, input `input` (batch x 3 x hw x hw), output
/// `output` (batch x classes).
///
/// # Errors
/// A size of the spec is zero or absurd, or zeros are not for their layers.
pub fn build(network: Network, spec: &Spec) -> Result<ModelProto> {
    spec.check()?;
    Ok(networks::build(network, spec)?.model)
}

/// A model as the bytes of its file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Writes a model to `path`, whole or not at all.
///
/// # Errors
/// As [`prune::file::write`].
pub fn write(model: &ModelProto, path: &Path) -> Result<()> {
    prune::file::write(path, &encode(model))
}
