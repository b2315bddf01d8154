//! JavaScript's typed arrays as tensors, and tensors as arrays.

use anyhow::{Context, Result, bail, ensure};
use js_sys::Array;
use tract_core::internal::*;
use wasm_bindgen::{JsCast, JsValue};

/// Calls `$with!` with tract's name, Rust's type and JavaScript's array of every type that all three have. Half
/// precision and truth values travel as their bits.
macro_rules! each_array {
    ($with:ident) => {
        $with!(F32 => f32, Float32Array; F64 => f64, Float64Array; I8 => i8, Int8Array; I16 => i16, Int16Array;
            I32 => i32, Int32Array; I64 => i64, BigInt64Array; U8 => u8, Uint8Array; U16 => u16, Uint16Array;
            U32 => u32, Uint32Array; U64 => u64, BigUint64Array)
    };
}

/// What the package calls a type, if JavaScript has an array for it.
pub(crate) fn name(dt: DatumType) -> Option<&'static str> {
    Some(match dt {
        DatumType::F16 => "float16",
        DatumType::F32 => "float32",
        DatumType::F64 => "float64",
        DatumType::I8 => "int8",
        DatumType::I16 => "int16",
        DatumType::I32 => "int32",
        DatumType::I64 | DatumType::TDim => "int64",
        DatumType::U8 => "uint8",
        DatumType::U16 => "uint16",
        DatumType::U32 => "uint32",
        DatumType::U64 => "uint64",
        DatumType::Bool => "bool",
        _ => return None,
    })
}

/// A copy of an array, of type `dt` and this shape.
///
/// # Errors
/// An array of another type or length.
pub(crate) fn tensor(value: &JsValue, dt: DatumType, shape: &[usize]) -> Result<Tensor> {
    macro_rules! read {
        ($($dt:ident => $t:ty, $array:ident);*) => {
            match dt {
                $(DatumType::$dt => {
                    let array = value.dyn_ref::<js_sys::$array>();
                    let array = array.with_context(|| format!("not a {}", stringify!($array)))?;
                    check(array.length() as usize, shape)?;
                    let mut tensor = Tensor::zero_dt(dt, shape)?;
                    array.copy_to(tensor.try_as_plain_ram_mut()?.as_slice_mut::<$t>()?);
                    Ok(tensor)
                })*
                DatumType::F16 => {
                    let array = value.dyn_ref::<js_sys::Uint16Array>().context("not a Uint16Array")?;
                    check(array.length() as usize, shape)?;
                    let bits: Vec<f16> = array.to_vec().into_iter().map(f16::from_bits).collect();
                    Tensor::from_shape(shape, &bits)
                }
                DatumType::Bool => {
                    let array = value.dyn_ref::<js_sys::Uint8Array>().context("not a Uint8Array")?;
                    check(array.length() as usize, shape)?;
                    let bits: Vec<bool> = array.to_vec().into_iter().map(|byte| byte != 0).collect();
                    Tensor::from_shape(shape, &bits)
                }
                _ => bail!("it is of type {dt:?}, which JavaScript has no array for"),
            }
        };
    }
    each_array!(read)
}

fn check(length: usize, shape: &[usize]) -> Result<()> {
    let needed = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    ensure!(needed == Some(length), "{length} values for dims {shape:?}");
    Ok(())
}

/// A copy of a tensor, and an array of its sizes.
///
/// # Errors
/// A type that JavaScript has no array for.
pub(crate) fn array(tensor: &Tensor) -> Result<[JsValue; 2]> {
    let plain = match tensor.datum_type() {
        DatumType::TDim => Some(tensor.cast_to::<i64>()?.into_owned()),
        dt if dt.is_quantized() => Some(tensor.cast_to_dt(dt.unquantized())?.into_owned()),
        _ => None,
    };
    let tensor = plain.as_ref().unwrap_or(tensor);
    let view = tensor.try_as_plain_ram()?;
    macro_rules! make {
        ($($dt:ident => $t:ty, $array:ident);*) => {
            match tensor.datum_type() {
                $(DatumType::$dt => js_sys::$array::from(view.as_slice::<$t>()?).into(),)*
                DatumType::F16 => {
                    let bits: Vec<u16> = view.as_slice::<f16>()?.iter().map(|v| v.to_bits()).collect();
                    js_sys::Uint16Array::from(&*bits).into()
                }
                DatumType::Bool => {
                    let bytes: Vec<u8> = view.as_slice::<bool>()?.iter().map(|v| u8::from(*v)).collect();
                    js_sys::Uint8Array::from(&*bytes).into()
                }
                other => bail!("it is of type {other:?}, which JavaScript has no array for"),
            }
        };
    }
    let data: JsValue = each_array!(make);
    let dims: Array = tensor.shape().iter().map(|dim| JsValue::from(*dim as f64)).collect();
    Ok([data, dims.into()])
}
