//! Which backend runs the operation how.

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host {
    use burn::backend::tensor::FloatTensor;

    use crate::fused::host;
    use crate::fused::{
        Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmKernels, LstmOps,
        LstmOutputs, Saved, Wanted,
    };

    /// Backends whose numbers lie in the memory of this process: the CPU kernels.
    macro_rules! on_cpu_kernels {
        ($backend:ty) => {
            impl LstmOps for $backend {
                fn lstm_sequence(inputs: LstmInputs<Self>, call: LstmCall) -> LstmOutputs<Self> {
                    Self::lstm_forward(inputs, &call, Keep::Nothing).0
                }
            }

            impl LstmKernels for $backend {
                fn lstm_forward(
                    inputs: LstmInputs<Self>,
                    call: &LstmCall,
                    keep: Keep,
                ) -> (LstmOutputs<Self>, Saved) {
                    host::forward(inputs, call, keep)
                }

                fn lstm_backward(
                    inputs: LstmInputs<Self>,
                    output: FloatTensor<Self>,
                    saved: Saved,
                    cotangents: LstmCotangents<Self>,
                    call: &LstmCall,
                    wanted: Wanted,
                ) -> LstmGradients<Self> {
                    host::backward(inputs, output, saved, cotangents, call, wanted)
                }
            }
        };
    }

    #[cfg(feature = "flex")]
    on_cpu_kernels!(burn::backend::Flex);

    #[cfg(feature = "ndarray")]
    mod ndarray {
        use super::*;

        on_cpu_kernels!(burn::backend::NdArray);
    }
}

/// GPUs. With kernel fusion burn's backend is one around this; see `fusion.rs`.
#[cfg(feature = "cube")]
mod cube {
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;

    use crate::fused::{
        Keep, LstmCall, LstmCotangents, LstmGradients, LstmInputs, LstmKernels, LstmOps,
        LstmOutputs, Saved, Wanted, cube,
    };

    impl LstmOps for CubeBackend {
        fn lstm_sequence(inputs: LstmInputs<Self>, call: LstmCall) -> LstmOutputs<Self> {
            Self::lstm_forward(inputs, &call, Keep::Nothing).0
        }
    }

    impl LstmKernels for CubeBackend {
        fn lstm_forward(
            inputs: LstmInputs<Self>,
            call: &LstmCall,
            keep: Keep,
        ) -> (LstmOutputs<Self>, Saved) {
            let rung = cube::rung_of(&inputs, call);
            cube::forward(inputs, call, keep, rung)
        }

        fn lstm_backward(
            inputs: LstmInputs<Self>,
            output: FloatTensor<Self>,
            saved: Saved,
            cotangents: LstmCotangents<Self>,
            call: &LstmCall,
            wanted: Wanted,
        ) -> LstmGradients<Self> {
            let rung = cube::rung_of(&inputs, call);
            cube::backward(inputs, output, saved, cotangents, call, wanted, rung)
        }
    }
}
