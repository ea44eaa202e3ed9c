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
                fn lstm_sequence(
                    x: FloatTensor<Self>,
                    weight_ih: FloatTensor<Self>,
                    weight_hh: FloatTensor<Self>,
                    bias: FloatTensor<Self>,
                    h0: FloatTensor<Self>,
                    c0: FloatTensor<Self>,
                    call: LstmCall,
                ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                    let inputs = LstmInputs {
                        x,
                        weight_ih,
                        weight_hh,
                        bias,
                        h0,
                        c0,
                    };
                    let (outputs, _) = Self::lstm_forward(inputs, &call, Keep::Nothing);
                    (outputs.output, outputs.hidden, outputs.cell)
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

/// GPUs: the default bodies.
#[cfg(any(feature = "wgpu-untuned", feature = "vulkan", feature = "cuda"))]
mod cube {
    use burn::backend::Cube;

    use crate::fused::{LstmKernels, LstmOps};

    impl LstmOps for Cube {}

    impl LstmKernels for Cube {}
}
