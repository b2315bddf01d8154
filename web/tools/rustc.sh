#!/bin/sh
# rustc for the package, as cargo's RUSTC_WRAPPER: compiles rustfft without its loops over SIMD. tract-core asks for that feature, and
# cargo has no word to take it back. It would be 0.39 MB of the package, 0.12 after gzip, for the operators DFT and STFT alone,
# which have the plain loops anyway.
case " $* " in
  *' --crate-name rustfft '*)
    for arg do
      shift
      [ "$arg" = 'feature="wasm_simd"' ] && arg=small
      set -- "$@" "$arg"
    done ;;
esac
exec "$@"
