//! Layers of MobileNets, small maps and single pixels, shared by the examples that time pointwise kernels.

/// Input channels, output channels, height and width of the map.
pub const LAYERS: [(&str, usize, usize, usize); 18] = [
    ("v1 32-64@112", 32, 64, 112),
    ("v1 64-128@56", 64, 128, 56),
    ("v1 128-128@56", 128, 128, 56),
    ("v1 128-256@28", 128, 256, 28),
    ("v1 256-256@28", 256, 256, 28),
    ("v1 256-512@14", 256, 512, 14),
    ("v1 512-512@14", 512, 512, 14),
    ("v1 512-1024@7", 512, 1024, 7),
    ("v1 1024-1024@7", 1024, 1024, 7),
    ("v2 24-144@56", 24, 144, 56),
    ("v2 144-24@56", 144, 24, 56),
    ("v2 384-64@14", 384, 64, 14),
    ("v2 160-960@7", 160, 960, 7),
    ("960-160@4", 960, 160, 4),
    ("672-112@3", 672, 112, 3),
    ("192-48@2", 192, 48, 2),
    ("SE 480-120@1", 480, 120, 1),
    ("FC 1024-1000@1", 1024, 1000, 1),
];

/// The one in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
