//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::RowsArgs;
use super::body::Unroll;
use super::loops::Loops;
use crate::pairs::{self, f16};
use crate::quads::{self, CHANNELS};
use crate::table::Element;

/// No vectors: plain Rust, for lanes of the [`Element`] with the number `ELEMENT`.
pub(crate) struct Scalar<const ELEMENT: u8 = { Element::F32 as u8 }>;

impl<const ELEMENT: u8> Loops for Scalar<ELEMENT> {
    const LANES: usize = 1;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    const DUOS: bool = false;

    /// The table has no row that asks for it.
    unsafe fn rows<U: Unroll, const KH: usize, const KW: usize, const S: usize, const MASK: u32>(
        _: &RowsArgs,
    ) {
        unreachable!("plain Rust takes taps as a list")
    }

    /// The table has no row that asks for it.
    unsafe fn large<const K: usize, const S: usize>(_: &RowsArgs) {
        unreachable!("plain Rust takes taps as a list")
    }

    unsafe fn any<const S: usize>(args: &RowsArgs) {
        if const { ELEMENT == Element::Int8 as u8 } {
            // SAFETY: passed on from the caller.
            return unsafe { any_of_quads::<S>(args) };
        }
        let (lo, hi) = args.clamp;
        let per_lane = Self::ELEMENT.per_lane();
        if const { matches!(Self::ELEMENT, Element::F16) } {
            // SAFETY: passed on from the caller.
            return unsafe { halves::<S>(args) };
        }
        for plane in 0..args.planes {
            let plane = args.plane(plane);
            for row in 0..args.rows {
                for ox in 0..args.y_width {
                    // SAFETY: RowsArgs: output `row, ox` is there, and so is every input inside the map.
                    unsafe {
                        let mut sums = [0.0; 2];
                        for (channel, sum) in sums.iter_mut().enumerate().take(per_lane) {
                            *sum = *plane.bias.add(channel);
                        }
                        for (tap, [ky, kx]) in args.places.iter().enumerate() {
                            let iy = args.first + (row * args.step + ky) as isize;
                            let ix = (ox * S + kx) as isize - args.left as isize;
                            if (iy as usize) < args.x_height && (ix as usize) < args.x_width {
                                let x = *plane.x.add(iy as usize * args.x_width + ix as usize);
                                let x = match Self::ELEMENT {
                                    Element::F32 => [x, 0.0],
                                    _ => pairs::widen(x.to_bits()),
                                };
                                for channel in 0..per_lane {
                                    sums[channel] += *plane.taps.add(tap * per_lane + channel) * x[channel];
                                }
                            }
                        }
                        let [first, second] = sums.map(|sum| {
                            let sum = if sum < lo { lo } else { sum };
                            if sum > hi { hi } else { sum }
                        });
                        let y = plane.y.add(row * args.y_width + ox);
                        match Self::ELEMENT {
                            Element::F32 => *y = first,
                            _ if args.apart == 0 => {
                                *y = f32::from_bits(pairs::pair(first, second));
                            }
                            _ => (*y, *y.add(args.apart)) = (first, second),
                        }
                    }
                }
            }
        }
    }
}

/// [`Loops::any`] for quads, where padding counts.
///
/// # Safety
/// As there.
unsafe fn any_of_quads<const S: usize>(args: &RowsArgs) {
    let quads = args.quads();
    for number in 0..args.planes {
        let plane = args.plane(number);
        for row in 0..args.rows {
            for ox in 0..args.y_width {
                let mut sums = [0i32; CHANNELS];
                for [ky, kx] in quads.taps.all() {
                    let iy = args.first + (row * args.step + ky) as isize;
                    let ix = (ox * S + kx) as isize - args.left as isize;
                    let mut x = quads.requantise.x_zeros;
                    if (iy as usize) < args.x_height && (ix as usize) < args.x_width {
                        // SAFETY: RowsArgs: every input inside the map is there.
                        x = unsafe { *plane.x.add(iy as usize * args.x_width + ix as usize) };
                    }
                    for (channel, (sum, x)) in sums.iter_mut().zip(quads::bytes(x.to_bits())).enumerate() {
                        // SAFETY: RowsArgs: a plane has these taps.
                        let tap = unsafe { quads.taps.tap(plane.taps, channel, [ky, kx]) };
                        *sum = sum.wrapping_add(tap * (i32::from(x) - quads.less));
                    }
                }
                // SAFETY: RowsArgs: output `row, ox` is there, and so are a bias and a scale for each channel.
                unsafe {
                    let mut bytes = [0u8; CHANNELS];
                    for (channel, (byte, sum)) in bytes.iter_mut().zip(sums).enumerate() {
                        let sum = ((*plane.bias.add(channel)).to_bits() as i32).wrapping_add(sum);
                        let scale = *quads.scales.add(number * CHANNELS + channel);
                        *byte = quads.requantise.byte(scale, sum);
                    }
                    *plane.y.add(row * args.y_width + ox) = f32::from_bits(quads::lane(bytes));
                }
            }
        }
    }
}

/// [`Loops::any`] for pairs of f16, whose sums are f16, too: what vectors must agree with, bit by bit.
///
/// # Safety
/// As there.
unsafe fn halves<const S: usize>(args: &RowsArgs) {
    let halves = |lane: f32| [lane.to_bits() as u16, (lane.to_bits() >> 16) as u16];
    let [lo, hi] = [args.clamp.0, args.clamp.1].map(|bound| f16::float(f16::round(bound)));
    for plane in 0..args.planes {
        let plane = args.plane(plane);
        for (row, ox) in (0..args.rows).flat_map(|row| (0..args.y_width).map(move |ox| (row, ox))) {
            // SAFETY: RowsArgs: output `row, ox` is there, and so is every input inside the map.
            unsafe {
                let mut sums = halves(*plane.bias);
                for (tap, [ky, kx]) in args.places.iter().enumerate() {
                    let iy = args.first + (row * args.step + ky) as isize;
                    let ix = (ox * S + kx) as isize - args.left as isize;
                    if (iy as usize) < args.x_height && (ix as usize) < args.x_width {
                        let x = halves(*plane.x.add(iy as usize * args.x_width + ix as usize));
                        let taps = halves(*plane.taps.add(2 * tap));
                        for ((sum, x), tap) in sums.iter_mut().zip(x).zip(taps) {
                            *sum = f16::mul_add(x, tap, *sum);
                        }
                    }
                }
                let [first, second] = sums.map(|sum| {
                    let sum = f16::float(sum);
                    let sum = if sum < lo { lo } else { sum };
                    if sum > hi { hi } else { sum }
                });
                let y = plane.y.add(row * args.y_width + ox);
                match args.apart {
                    0 => *y = f32::from_bits(f16::pair(first, second)),
                    apart => (*y, *y.add(apart)) = (first, second),
                }
            }
        }
    }
}
