//! numpy's arrays as tensors, and tensors as arrays.

use crate::errors::{failed, wrong_type};
use numpy::{Element, PyArray, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use tract_core::internal::*;

/// What numpy calls a type, if it has it.
pub(crate) fn numpy_name(dt: DatumType) -> Option<&'static str> {
    Some(match dt {
        DatumType::F16 => "float16",
        DatumType::F32 => "float32",
        DatumType::F64 => "float64",
        DatumType::I8 => "int8",
        DatumType::I16 => "int16",
        DatumType::I32 => "int32",
        DatumType::I64 => "int64",
        DatumType::U8 => "uint8",
        DatumType::U16 => "uint16",
        DatumType::U32 => "uint32",
        DatumType::U64 => "uint64",
        DatumType::Bool => "bool",
        _ => return None,
    })
}

/// A copy of an array, which has to be of type `dt`.
///
/// # Errors
/// `TypeError` for what is no array, or one of another type.
pub(crate) fn tensor(value: &Bound<'_, PyAny>, dt: DatumType) -> PyResult<Tensor> {
    let name = numpy_name(dt);
    let Ok(array) = value.cast::<PyUntypedArray>() else {
        let got = value.get_type().name()?;
        return Err(wrong_type(format!(
            "expected a numpy array of {}, not {got}",
            name.unwrap_or("numbers")
        )));
    };
    macro_rules! read {
        ($($dt:ident => $t:ty),*) => {
            match dt {
                $(DatumType::$dt => of::<$t>(array)?,)*
                DatumType::F16 => of::<f16>(array)?,
                _ => None,
            }
        };
    }
    let tensor: Option<Tensor> = arrays::each_type!(read);
    tensor.ok_or_else(|| {
        let got = array.dtype();
        match name {
            Some(name) => wrong_type(format!("an array of {got}, expected {name}: x.astype({name:?})")),
            None => wrong_type(format!("an array of {got}, expected {dt:?}, which numpy has not")),
        }
    })
}

fn of<T: Element + Datum + Copy>(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Tensor>> {
    let Ok(array) = array.cast::<PyArrayDyn<T>>() else { return Ok(None) };
    // Any other is copied by numpy, which can have values at any address and at any distance.
    let aligned = array.getattr("flags")?.getattr("aligned")?.is_truthy()?;
    let array = match array.is_c_contiguous() && aligned {
        true => array.clone(),
        false => array.call_method1("copy", ("C",))?.cast_into::<PyArrayDyn<T>>()?,
    };
    let array = array.try_readonly()?;
    Tensor::from_shape(array.shape(), array.as_slice()?).map(Some).map_err(failed)
}

/// A tensor as an array that owns it; sizes that tract computes with are int64.
///
/// # Errors
/// `RuntimeError` for a type that numpy has not.
pub(crate) fn array<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let tensor = match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>().map_err(failed)?.into_owned(),
        dt if dt.is_quantized() => tensor.cast_to_dt(dt.unquantized()).map_err(failed)?.into_owned(),
        _ => tensor,
    };
    macro_rules! make {
        ($($dt:ident => $t:ty),*) => {
            match tensor.datum_type() {
                $(DatumType::$dt => made::<$t>(py, tensor),)*
                DatumType::F16 => made::<f16>(py, tensor),
                other => Err(failed(format_err!("numpy has no type for {other:?}"))),
            }
        };
    }
    arrays::each_type!(make)
}

fn made<T: Element + Datum>(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let array = tensor.into_plain_array::<T>().map_err(failed)?;
    Ok(PyArray::from_owned_array(py, array).into_any())
}
