//! Proves that five ways in which people write an LSTM by hand are this LSTM. Each is written out
//! here with loops over numbers in f64, or as the tensor code that it is known as, and knows nothing
//! of the crate but its weights' layout:
//!
//! 1. stacked weights and one bias, all gates at once, a whole sequence from the zero state;
//! 2. four matrices on the concatenation `[h, x]`, for a vector and for a sequence;
//! 3. a function of `(input, (h0, c0), w_ih, w_hh, b_ih, b_hh)`;
//! 4. a layer with an explicit cache and a hand-written backward step;
//! 5. a cell of eight linear layers and the chunked cell, stacked, in both directions.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{DType, Tensor, TensorData};
use scratch_lstm::bptt;
use scratch_lstm::config::DirectionJoin;
use scratch_lstm::gates::{Gate, Gates};
use scratch_lstm::weights::{
    ConcatOrder, ConcatSide, ConcatWeights, EightLinears, GateOrder, StackedWeights, TwoBiasWeights,
};
use scratch_lstm::{
    CellWeights, ForwardOptions, Initializer, Key, LstmState, PathChoice, ScratchLstm,
    ScratchLstmCell, ScratchLstmConfig, functional,
};
use scratch_tests::random::uniform;
use scratch_tests::{
    Case, Named, Tolerance, Values, assert_all_close, assert_close, device, dtypes,
};

const B: usize = 3;
const T: usize = 7;
const D: usize = 5;
const H: usize = 11;

// The hand-written side: vectors and matrices (by rows) of numbers.

type Vector = Vec<f64>;
type Matrix = Vec<Vector>;

#[derive(Debug, Clone)]
struct State {
    h: Vector,
    c: Vector,
}

fn key(name: &str) -> Key {
    Key::new(17).child(name)
}

fn vector(name: &str, size: usize) -> Vector {
    uniform(size, &key(name)).iter().map(|x| 0.7 * x).collect()
}

fn matrix(name: &str, rows: usize, columns: usize) -> Matrix {
    let values = vector(name, rows * columns);
    values.chunks(columns).map(<[f64]>::to_vec).collect()
}

/// `B` sequences of `T` vectors.
fn sequences(name: &str, width: usize) -> Vec<Matrix> {
    (0..B)
        .map(|row| matrix(&format!("{name}.{row}"), T, width))
        .collect()
}

fn zero_state() -> State {
    State {
        h: vec![0.0; H],
        c: vec![0.0; H],
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `W x`.
fn times(matrix: &Matrix, x: &[f64]) -> Vector {
    let dot = |row: &Vector| row.iter().zip(x).map(|(a, b)| a * b).sum();
    matrix.iter().map(dot).collect()
}

/// `x W`.
fn times_right(x: &[f64], matrix: &Matrix) -> Vector {
    (0..matrix[0].len())
        .map(|column| x.iter().zip(matrix).map(|(a, row)| a * row[column]).sum())
        .collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The end of every formulation: four pre-activations and the old cell state.
fn finish(i: &[f64], f: &[f64], g: &[f64], o: &[f64], c: &[f64]) -> State {
    let c: Vector = (0..c.len())
        .map(|k| sigmoid(f[k]) * c[k] + sigmoid(i[k]) * g[k].tanh())
        .collect();
    let h = c
        .iter()
        .zip(o)
        .map(|(c, o)| sigmoid(*o) * c.tanh())
        .collect();
    State { h, c }
}

// The way from numbers to tensors and back.

fn tensor1(values: &[f64], dtype: DType) -> Tensor<1> {
    Tensor::from_data(
        TensorData::new(values.to_vec(), [values.len()]),
        (&device(), dtype),
    )
}

fn tensor2(matrix: &[Vector], dtype: DType) -> Tensor<2> {
    let data = TensorData::new(matrix.concat(), [matrix.len(), matrix[0].len()]);
    Tensor::from_data(data, (&device(), dtype))
}

fn tensor3(cube: &[Matrix], dtype: DType) -> Tensor<3> {
    let slices = cube.iter().map(|matrix| tensor2(matrix, dtype)).collect();
    Tensor::stack(slices, 0)
}

fn values3(cube: &[Matrix]) -> Values {
    let flat = cube.iter().flatten().flatten().copied().collect();
    Values::new([cube.len(), cube[0].len(), cube[0][0].len()], flat)
}

fn values2(matrix: &[Vector]) -> Values {
    Values::new([matrix.len(), matrix[0].len()], matrix.concat())
}

fn values1(vector: &[f64]) -> Values {
    Values::new([vector.len()], vector.to_vec())
}

fn rows_of(values: Values) -> Matrix {
    let width = *values.shape.last().unwrap();
    values.values.chunks(width).map(<[f64]>::to_vec).collect()
}

/// One layer, one direction, of given weights.
fn single_layer(weights: CellWeights) -> ScratchLstm {
    let ([_, d_input], bias) = (weights.weight_ih.dims(), weights.bias.is_some());
    let config = ScratchLstmConfig::new(d_input, H).with_bias(bias);
    let key = key("lstm");
    let mut lstm = config.init_with(&key, &device());
    lstm.layers[0].forward = ScratchLstmCell::from_weights(weights, &key);
    lstm
}

// 1. Stacked weights and one bias.

/// `z = x W_x + h W_h + b`, cut into four where `order` says; the state is carried.
fn stacked(
    xs: &Matrix,
    w_x: &Matrix,
    w_h: &Matrix,
    b: &Vector,
    order: [Gate; 4],
) -> (Matrix, State) {
    let block = |z: &Vector, gate: Gate| -> Vector {
        let place = order.iter().position(|&other| other == gate).unwrap();
        z[place * H..(place + 1) * H].to_vec()
    };
    let mut state = zero_state();
    let mut outputs = Vec::new();
    for x in xs {
        let z = plus(&plus(&times_right(x, w_x), &times_right(&state.h, w_h)), b);
        let [i, f, g, o] =
            [Gate::Input, Gate::Forget, Gate::Cell, Gate::Output].map(|gate| block(&z, gate));
        state = finish(&i, &f, &g, &o, &state.c);
        outputs.push(state.h.clone());
    }
    (outputs, state)
}

#[test]
fn stacked_weights_over_a_whole_sequence() {
    use Gate::{Cell, Forget, Input, Output};
    let (w_x, w_h, b) = (
        matrix("w_x", D, 4 * H),
        matrix("w_h", H, 4 * H),
        vector("b", 4 * H),
    );
    let xs = sequences("x", D);
    let orders = [
        [Input, Forget, Cell, Output],
        [Input, Output, Forget, Cell],
        [Forget, Input, Output, Cell],
        [Cell, Output, Input, Forget],
    ];
    for dtype in dtypes() {
        for order in orders {
            let weights = StackedWeights {
                weight_x: tensor2(&w_x, dtype),
                weight_h: tensor2(&w_h, dtype),
                bias: Some(tensor1(&b, dtype)),
                order: GateOrder::try_new(order).unwrap(),
            };
            let lstm = single_layer(weights.try_into_cell().unwrap());
            let (output, state) = lstm.forward(tensor3(&xs, dtype), None);

            let run = |xs: &Matrix| stacked(xs, &w_x, &w_h, &b, order);
            let (expected, last): (Vec<_>, Vec<_>) = xs.iter().map(run).unzip();
            let tolerance = Tolerance::of(dtype);
            assert_close("output", output, values3(&expected), tolerance);
            let h: Matrix = last.iter().map(|state| state.h.clone()).collect();
            let c: Matrix = last.iter().map(|state| state.c.clone()).collect();
            assert_close("h_n", state.hidden, values3(&[h]), tolerance);
            assert_close("c_n", state.cell, values3(&[c]), tolerance);
        }
    }
}

/// What a copy of this code that forgets to carry the state would not do.
#[test]
fn the_last_output_depends_on_the_first_input() {
    let lstm = Case::new(ScratchLstmConfig::new(D, H)).lstm();
    let last = |first: f64| -> Values {
        let mut xs = sequences("x", D);
        for row in &mut xs {
            row[0][0] = first;
        }
        let input = tensor3(&xs, DType::F32).autodiff();
        let (output, _) = lstm.forward(input, None);
        output.narrow(1, T - 1, 1).into()
    };
    let (one, other) = (last(0.0), last(1.0));
    for (row, (a, b)) in one.values.chunks(H).zip(other.values.chunks(H)).enumerate() {
        let apart = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(apart > 1e-4, "row {row}: {apart}");
    }
}

// 2. Four matrices on the concatenation.

/// One step of `W_i·[h; x] + b_i` and so on, with what `ConcatWeights` holds as numbers.
fn concatenated(weights: &Concat, x: &[f64], state: &State) -> State {
    let joined: Vector = match weights.order {
        ConcatOrder::HiddenFirst => [&state.h, x].concat(),
        ConcatOrder::InputFirst => [x, &state.h].concat(),
    };
    let gate = |matrix: &Matrix, bias: &Vector| match weights.side {
        ConcatSide::Left => plus(&times(matrix, &joined), bias),
        ConcatSide::Right => plus(&times_right(&joined, matrix), bias),
    };
    let (w, b) = (&weights.weight, &weights.bias);
    finish(
        &gate(&w.input, &b.input),
        &gate(&w.forget, &b.forget),
        &gate(&w.cell, &b.cell),
        &gate(&w.output, &b.output),
        &state.c,
    )
}

struct Concat {
    weight: Gates<Matrix>,
    bias: Gates<Vector>,
    side: ConcatSide,
    order: ConcatOrder,
}

const CONCATS: [(ConcatSide, ConcatOrder); 4] = [
    (ConcatSide::Left, ConcatOrder::HiddenFirst),
    (ConcatSide::Left, ConcatOrder::InputFirst),
    (ConcatSide::Right, ConcatOrder::HiddenFirst),
    (ConcatSide::Right, ConcatOrder::InputFirst),
];

#[test]
fn concatenation_one_step_on_a_vector() {
    let x = vector("x", D);
    let state = State {
        h: vector("h", H),
        c: vector("c", H),
    };
    for dtype in dtypes() {
        for (side, order) in CONCATS {
            let shape = match side {
                ConcatSide::Left => (H, H + D),
                ConcatSide::Right => (H + D, H),
            };
            let by_hand = Concat {
                weight: Gates::from_fn(|gate| matrix(&format!("w.{gate:?}"), shape.0, shape.1)),
                bias: Gates::from_fn(|gate| vector(&format!("b.{gate:?}"), H)),
                side,
                order,
            };
            let weights = ConcatWeights {
                weight: by_hand.weight.clone().map(|weight| tensor2(&weight, dtype)),
                bias: Some(by_hand.bias.clone().map(|bias| tensor1(&bias, dtype))),
                side,
                order,
            };
            let cell = ScratchLstmCell::from_weights(weights.try_into_cell().unwrap(), &key("x"));
            let before = LstmState {
                hidden: tensor1(&state.h, dtype),
                cell: tensor1(&state.c, dtype),
            };
            let after = cell.forward_unbatched(tensor1(&x, dtype), Some(before));
            let expected = concatenated(&by_hand, &x, &state);
            let tolerance = Tolerance::of(dtype);
            assert_close("h'", after.hidden, values1(&expected.h), tolerance);
            assert_close("c'", after.cell, values1(&expected.c), tolerance);
        }
    }
}

#[test]
fn concatenation_over_an_unbatched_sequence_with_xavier_weights() {
    let xs = matrix("x", T, D);
    for initializer in [Initializer::XavierUniform, Initializer::XavierNormal] {
        for batch_first in [true, false] {
            let config = ScratchLstmConfig::new(D, H)
                .with_initializers(initializer, initializer)
                .with_batch_first(batch_first);
            let lstm = config.init_with(&key("xavier"), &device());
            for (side, order) in CONCATS {
                let weights = lstm.layers[0].forward.weights();
                let weights = ConcatWeights::try_from_cell(weights, side, order).unwrap();
                let by_hand = Concat {
                    weight: weights.weight.map(|weight| rows_of(weight.into())),
                    bias: weights.bias.unwrap().map(|bias| Values::from(bias).values),
                    side,
                    order,
                };
                let mut state = zero_state();
                let mut expected = Vec::new();
                for x in &xs {
                    state = concatenated(&by_hand, x, &state);
                    expected.push(state.h.clone());
                }
                let (output, after) = lstm.forward_unbatched(tensor2(&xs, DType::F32), None);
                assert_eq!(output.dims(), [T, H]);
                let tolerance = Tolerance::of(DType::F32);
                assert_close("output", output, values2(&expected), tolerance);
                assert_close("h_n", after.hidden, values2(&[state.h]), tolerance);
                assert_close("c_n", after.cell, values2(&[state.c]), tolerance);
            }
        }
    }
}

// 3. A function of input, state and weights.

/// `W_ih x + b_ih + W_hh h + b_hh`, gates input, forget, cell, output below each other.
struct TwoBiases {
    w_ih: Matrix,
    w_hh: Matrix,
    b_ih: Vector,
    b_hh: Vector,
}

impl TwoBiases {
    fn random(name: &str, width: usize) -> Self {
        Self {
            w_ih: matrix(&format!("{name}.w_ih"), 4 * H, width),
            w_hh: matrix(&format!("{name}.w_hh"), 4 * H, H),
            b_ih: vector(&format!("{name}.b_ih"), 4 * H),
            b_hh: vector(&format!("{name}.b_hh"), 4 * H),
        }
    }

    fn step(&self, x: &[f64], state: &State) -> State {
        let on_input = plus(&times(&self.w_ih, x), &self.b_ih);
        let on_hidden = plus(&times(&self.w_hh, &state.h), &self.b_hh);
        let z = plus(&on_input, &on_hidden);
        let chunks: Vec<&[f64]> = z.chunks(H).collect();
        finish(chunks[0], chunks[1], chunks[2], chunks[3], &state.c)
    }

    /// Over a whole sequence, in either direction; outputs in the order of time.
    fn run(&self, xs: &[Vector], state: &State, reverse: bool) -> (Matrix, State) {
        let mut state = state.clone();
        let mut outputs = vec![Vec::new(); xs.len()];
        let mut times: Vec<usize> = (0..xs.len()).collect();
        if reverse {
            times.reverse();
        }
        for time in times {
            state = self.step(&xs[time], &state);
            outputs[time] = state.h.clone();
        }
        (outputs, state)
    }

    fn tensors(&self, dtype: DType) -> TwoBiasWeights {
        TwoBiasWeights {
            weight_ih: tensor2(&self.w_ih, dtype),
            weight_hh: tensor2(&self.w_hh, dtype),
            bias_ih: Some(tensor1(&self.b_ih, dtype)),
            bias_hh: Some(tensor1(&self.b_hh, dtype)),
            weight_hr: None,
        }
    }

    fn cell(&self, dtype: DType, key: &Key) -> ScratchLstmCell {
        let weights = self.tensors(dtype).try_into_cell().unwrap();
        ScratchLstmCell::from_weights(weights, key)
    }
}

fn random_state(name: &str) -> State {
    State {
        h: vector(&format!("{name}.h"), H),
        c: vector(&format!("{name}.c"), H),
    }
}

#[test]
fn a_function_of_input_state_and_weights() {
    let by_hand = TwoBiases::random("function", D);
    let xs = sequences("x", D);
    let states: Vec<State> = (0..B).map(|row| random_state(&format!("{row}"))).collect();
    for dtype in dtypes() {
        let TwoBiasWeights {
            weight_ih,
            weight_hh,
            bias_ih,
            bias_hh,
            ..
        } = by_hand.tensors(dtype);
        let hidden: Matrix = states.iter().map(|state| state.h.clone()).collect();
        let cell: Matrix = states.iter().map(|state| state.c.clone()).collect();
        let before = LstmState {
            hidden: tensor2(&hidden, dtype),
            cell: tensor2(&cell, dtype),
        };
        let input = tensor3(&xs, dtype).swap_dims(0, 1);
        let (output, after) =
            functional::lstm(input, before, weight_ih, weight_hh, bias_ih, bias_hh);
        assert_eq!(output.dims(), [T, B, H]);

        let runs = xs
            .iter()
            .zip(&states)
            .map(|(xs, state)| by_hand.run(xs, state, false));
        let (expected, last): (Vec<_>, Vec<_>) = runs.unzip();
        let tolerance = Tolerance::of(dtype);
        assert_close(
            "output",
            output.swap_dims(0, 1),
            values3(&expected),
            tolerance,
        );
        let h: Matrix = last.iter().map(|state| state.h.clone()).collect();
        let c: Matrix = last.iter().map(|state| state.c.clone()).collect();
        assert_close("h_n", after.hidden, values2(&h), tolerance);
        assert_close("c_n", after.cell, values2(&c), tolerance);
    }
}

// 4. An explicit cache and a backward step by hand.

/// Everything `bptt` and autodiff say of one sequence: outputs, final state, all gradients.
#[test]
fn backward_steps_by_hand_are_autodiff() {
    for dtype in dtypes() {
        for bias in [true, false] {
            let case = Case::new(ScratchLstmConfig::new(D, H).with_bias(bias))
                .with_dtype(dtype)
                .with_seed(4);
            let what = format!("{dtype:?}, bias {bias}");
            let tolerance = Tolerance::of(dtype);
            assert_all_close(&what, &by_hand(&case), &by_autodiff(&case), tolerance);
        }
    }
}

/// `[B, T, D]` weights, input, state and cotangents of a case, without autodiff.
fn by_hand(case: &Case) -> Named {
    let weights = case.lstm().layers[0].forward.weights();
    let weights = CellWeights::new(
        weights.weight_ih.inner(),
        weights.weight_hh.inner(),
        weights.bias.map(Tensor::inner),
    );
    let (sequence, cotangents) = (case.sequence(), case.cotangents());
    let step_of = |tensor: &Tensor<3>, time: usize| -> Tensor<2> {
        tensor.clone().inner().narrow(1, time, 1).squeeze_dim(1)
    };
    let layer = |tensor: Tensor<3>| -> Tensor<2> { tensor.inner().squeeze_dim(0) };

    let mut state = sequence.state.unwrap().map(layer);
    let (mut outputs, mut caches) = (Vec::new(), Vec::new());
    for time in 0..case.steps {
        let (after, cache) = bptt::forward_step(&weights, step_of(&sequence.input, time), state);
        outputs.push(after.hidden.clone());
        caches.push(cache);
        state = after;
    }

    let mut d_state = cotangents.state.map(layer);
    let mut d_input = vec![Values::new([0], vec![]); case.steps];
    let mut d_weights: Option<CellWeights> = None;
    for (time, cache) in caches.into_iter().enumerate().rev() {
        // The output of a step is its hidden state: both gradients meet there.
        d_state.hidden = d_state.hidden + step_of(&cotangents.output, time);
        let gradients = bptt::backward_step(&weights, cache, d_state);
        d_state = gradients.before;
        d_input[time] = gradients.input.into();
        d_weights = Some(match d_weights {
            None => gradients.weights,
            Some(sum) => CellWeights::new(
                sum.weight_ih + gradients.weights.weight_ih,
                sum.weight_hh + gradients.weights.weight_hh,
                sum.bias.zip(gradients.weights.bias).map(|(a, b)| a + b),
            ),
        });
    }
    let d_weights = d_weights.unwrap();
    let mut named = Named::from([
        ("output".into(), Tensor::<2>::stack::<3>(outputs, 0).into()),
        ("h_n".into(), state.hidden.into()),
        ("c_n".into(), state.cell.into()),
        ("dh_prev".into(), d_state.hidden.into()),
        ("dc_prev".into(), d_state.cell.into()),
        ("dW_x".into(), d_weights.weight_ih.into()),
        ("dW_h".into(), d_weights.weight_hh.into()),
    ]);
    if let Some(bias) = d_weights.bias {
        named.insert("db".into(), bias.into());
    }
    for (time, values) in d_input.into_iter().enumerate() {
        named.insert(format!("dx.{time}"), values);
    }
    named
}

fn by_autodiff(case: &Case) -> Named {
    let lstm = case.lstm();
    let cell = &lstm.layers[0].forward;
    let (sequence, cotangents) = (case.sequence(), case.cotangents());
    let before = sequence.state.clone().unwrap();
    let options = ForwardOptions::new()
        .with_state(before.clone())
        .with_path(PathChoice::Raw);
    let (output, after) = lstm.forward_with(sequence.input.clone(), options);
    let gradients = cotangents.loss(&output, &after).backward();
    let output = output.swap_dims(0, 1);
    let layer = |tensor: Tensor<3>| -> Values { tensor.squeeze_dim::<2>(0).into() };
    let mut named = Named::from([
        ("output".into(), output.into()),
        ("h_n".into(), layer(after.hidden)),
        ("c_n".into(), layer(after.cell)),
        (
            "dh_prev".into(),
            layer(before.hidden.grad(&gradients).unwrap()),
        ),
        (
            "dc_prev".into(),
            layer(before.cell.grad(&gradients).unwrap()),
        ),
        (
            "dW_x".into(),
            cell.weight_ih.grad(&gradients).unwrap().into(),
        ),
        (
            "dW_h".into(),
            cell.weight_hh.grad(&gradients).unwrap().into(),
        ),
    ]);
    if let Some(bias) = &cell.bias {
        named.insert("db".into(), bias.grad(&gradients).unwrap().into());
    }
    let d_input = sequence.input.grad(&gradients).unwrap();
    for time in 0..case.steps {
        let step = d_input.clone().narrow(1, time, 1).squeeze_dim::<2>(1);
        named.insert(format!("dx.{time}"), step.into());
    }
    named
}

// 5. Eight linear layers, the chunked cell, stacks, directions.

/// `lin_xi(x) + lin_hi(h)` for each gate, with weights `[in, out]` as burn's `Linear` has them.
#[test]
fn a_cell_of_eight_linear_layers() {
    let by_hand = |part: &str, width: usize| -> Gates<(Matrix, Vector)> {
        Gates::from_fn(|gate| {
            let weight = matrix(&format!("{part}.{gate:?}.w"), width, H);
            (weight, vector(&format!("{part}.{gate:?}.b"), H))
        })
    };
    let (on_input, on_hidden) = (by_hand("input", D), by_hand("hidden", H));
    let xs = matrix("x", B, D);
    let states: Vec<State> = (0..B).map(|row| random_state(&format!("{row}"))).collect();
    let step = |x: &Vector, state: &State| -> State {
        let gate = |(on_x, b_x): &(Matrix, Vector), (on_h, b_h): &(Matrix, Vector)| {
            let from_x = plus(&times_right(x, on_x), b_x);
            plus(&from_x, &plus(&times_right(&state.h, on_h), b_h))
        };
        finish(
            &gate(&on_input.input, &on_hidden.input),
            &gate(&on_input.forget, &on_hidden.forget),
            &gate(&on_input.cell, &on_hidden.cell),
            &gate(&on_input.output, &on_hidden.output),
            &state.c,
        )
    };
    let expected: Vec<State> = xs
        .iter()
        .zip(&states)
        .map(|(x, state)| step(x, state))
        .collect();

    for dtype in dtypes() {
        let linear = |(weight, bias): (Matrix, Vector)| Linear {
            weight: Param::from_tensor(tensor2(&weight, dtype)),
            bias: Some(Param::from_tensor(tensor1(&bias, dtype))),
        };
        let linears = EightLinears {
            on_input: on_input.clone().map(linear),
            on_hidden: on_hidden.clone().map(linear),
        };
        let cell = ScratchLstmCell::from_weights(linears.try_into_cell().unwrap(), &key("cell"));
        let matrix_of = |pick: fn(&State) -> &Vector, states: &[State]| -> Matrix {
            states.iter().map(|state| pick(state).clone()).collect()
        };
        let before = LstmState {
            hidden: tensor2(&matrix_of(|state| &state.h, &states), dtype),
            cell: tensor2(&matrix_of(|state| &state.c, &states), dtype),
        };
        let after = cell.forward(tensor2(&xs, dtype), Some(before));
        assert_eq!(after.hidden.dims(), [B, H]);
        let tolerance = Tolerance::of(dtype);
        let (h, c) = (
            matrix_of(|state| &state.h, &expected),
            matrix_of(|state| &state.c, &expected),
        );
        assert_close("h'", after.hidden, values2(&h), tolerance);
        assert_close("c'", after.cell, values2(&c), tolerance);
    }
}

/// One wide linear layer on the input, one on the hidden state, and `chunk(4)`.
#[test]
fn the_chunked_cell_on_batches_and_on_a_vector() {
    let by_hand = TwoBiases::random("chunked", D);
    let xs = matrix("x", B, D);
    for dtype in dtypes() {
        let cell = by_hand.cell(dtype, &key("cell"));
        let tolerance = Tolerance::of(dtype);
        let zero = zero_state();
        let expected: Vec<State> = xs.iter().map(|x| by_hand.step(x, &zero)).collect();

        let after = cell.forward(tensor2(&xs, dtype), None);
        let h: Matrix = expected.iter().map(|state| state.h.clone()).collect();
        assert_close("h'", after.hidden, values2(&h), tolerance);

        for (x, expected) in xs.iter().zip(&expected) {
            let after = cell.forward_unbatched(tensor1(x, dtype), None);
            assert_eq!(after.hidden.dims(), [H]);
            assert_close(
                "h' of a vector",
                after.hidden,
                values1(&expected.h),
                tolerance,
            );
            assert_close(
                "c' of a vector",
                after.cell,
                values1(&expected.c),
                tolerance,
            );
        }
    }
}

/// `L` layers of one or two directions, and one row run through them by hand.
struct Stack {
    layers: Vec<Vec<TwoBiases>>,
    join: DirectionJoin,
}

impl Stack {
    fn random(config: &ScratchLstmConfig) -> Self {
        let layers = (0..config.num_layers)
            .map(|layer| {
                // Both directions of a layer read both of the layer below, or their own only.
                let width = match (layer, config.join) {
                    (0, _) => D,
                    (_, DirectionJoin::EachLayer) => config.num_directions() * H,
                    (_, DirectionJoin::AtEnd) => H,
                };
                let cell = |direction| TwoBiases::random(&format!("{layer}.{direction}"), width);
                (0..config.num_directions()).map(cell).collect()
            })
            .collect();
        Self {
            layers,
            join: config.join,
        }
    }

    fn lstm(&self, config: &ScratchLstmConfig, dtype: DType) -> ScratchLstm {
        let key = key("stack");
        let mut lstm = config.init_with(&key, &device());
        for (layer, cells) in lstm.layers.iter_mut().zip(&self.layers) {
            layer.forward = cells[0].cell(dtype, &key);
            layer.reverse = cells.get(1).map(|cell| cell.cell(dtype, &key));
        }
        lstm
    }

    /// Outputs and final states (layer by layer, forward before reverse) of one row.
    fn run(&self, xs: &Matrix, states: &[State]) -> (Matrix, Vec<State>) {
        let directions = self.layers[0].len();
        let side_by_side = |outputs: &[Matrix]| -> Matrix {
            let at = |time: usize| {
                outputs
                    .iter()
                    .flat_map(|output| output[time].clone())
                    .collect()
            };
            (0..xs.len()).map(at).collect()
        };
        let mut inputs: Vec<Matrix> = vec![xs.clone(); directions];
        let mut after = Vec::new();
        for (index, cells) in self.layers.iter().enumerate() {
            let mut outputs = Vec::new();
            for (direction, cell) in cells.iter().enumerate() {
                let before = &states[index * directions + direction];
                let (output, last) = cell.run(&inputs[direction], before, direction == 1);
                outputs.push(output);
                after.push(last);
            }
            inputs = match self.join {
                DirectionJoin::EachLayer => vec![side_by_side(&outputs); directions],
                DirectionJoin::AtEnd => outputs,
            };
        }
        let output = match self.join {
            DirectionJoin::EachLayer => inputs.swap_remove(0),
            DirectionJoin::AtEnd => side_by_side(&inputs),
        };
        (output, after)
    }
}

/// States `[L*K, B, H]` from the states of each row.
fn by_layer(rows: &[Vec<State>], pick: fn(&State) -> &Vector) -> Vec<Matrix> {
    (0..rows[0].len())
        .map(|index| rows.iter().map(|row| pick(&row[index]).clone()).collect())
        .collect()
}

#[test]
fn stacks_in_both_directions_from_initial_states() {
    let base = ScratchLstmConfig::new(D, H);
    let configs = [
        base.clone().with_num_layers(3),
        base.clone().with_bidirectional(true),
        base.clone().with_num_layers(3).with_bidirectional(true),
        base.with_num_layers(3)
            .with_bidirectional(true)
            .with_join(DirectionJoin::AtEnd),
    ];
    let xs = sequences("x", D);
    for config in configs {
        let count = config.num_layers * config.num_directions();
        let before: Vec<Vec<State>> = (0..B)
            .map(|row| {
                (0..count)
                    .map(|index| random_state(&format!("{row}.{index}")))
                    .collect()
            })
            .collect();
        let stack = Stack::random(&config);
        let runs = xs
            .iter()
            .zip(&before)
            .map(|(xs, states)| stack.run(xs, states));
        let (expected, after): (Vec<_>, Vec<_>) = runs.unzip();
        for dtype in dtypes() {
            let lstm = stack.lstm(&config, dtype);
            let state = LstmState {
                hidden: tensor3(&by_layer(&before, |state| &state.h), dtype),
                cell: tensor3(&by_layer(&before, |state| &state.c), dtype),
            };
            let (output, last) = lstm.forward(tensor3(&xs, dtype), Some(state));
            let what = format!("{config:?} in {dtype:?}");
            assert_eq!(output.dims(), [B, T, config.num_directions() * H], "{what}");
            assert_eq!(last.hidden.dims(), [count, B, H], "{what}");
            assert_eq!(last.cell.dims(), [count, B, H], "{what}");
            let tolerance = Tolerance::of(dtype);
            assert_close(&what, output, values3(&expected), tolerance);
            let (h, c) = (
                by_layer(&after, |state| &state.h),
                by_layer(&after, |state| &state.c),
            );
            assert_close(&what, last.hidden, values3(&h), tolerance);
            assert_close(&what, last.cell, values3(&c), tolerance);

            // One row without an axis for rows.
            let of_row = |row: usize, pick: fn(&State) -> &Vector| {
                let states: Matrix = before[row]
                    .iter()
                    .map(|state| pick(state).clone())
                    .collect();
                tensor2(&states, dtype)
            };
            let state = LstmState {
                hidden: of_row(1, |state| &state.h),
                cell: of_row(1, |state| &state.c),
            };
            let (output, last) = lstm.forward_unbatched(tensor2(&xs[1], dtype), Some(state));
            assert_eq!(output.dims(), [T, config.num_directions() * H], "{what}");
            assert_eq!(last.hidden.dims(), [count, H], "{what}");
            assert_close(&what, output, values2(&expected[1]), tolerance);
            let c: Matrix = after[1].iter().map(|state| state.c.clone()).collect();
            assert_close(&what, last.cell, values2(&c), tolerance);
        }
    }
}

/// Joined at the end, a bidirectional LSTM is two LSTMs: one that reads the sequence, one that reads
/// it turned around.
#[test]
fn joined_at_the_end_are_two_stacks() {
    let one = ScratchLstmConfig::new(D, H).with_num_layers(2);
    let both = one
        .clone()
        .with_bidirectional(true)
        .with_join(DirectionJoin::AtEnd);
    for dtype in dtypes() {
        let case = Case::new(both.clone()).with_dtype(dtype);
        let lstm = case.lstm();
        let input = case.sequence().input;
        let (output, state) = lstm.forward(input.clone(), None);

        let half = |pick: fn(&scratch_lstm::LstmLayer) -> &ScratchLstmCell| {
            let mut half = Case::new(one.clone()).with_dtype(dtype).lstm();
            for (layer, from) in half.layers.iter_mut().zip(&lstm.layers) {
                layer.forward = pick(from).clone();
            }
            half
        };
        let forward = half(|layer| &layer.forward);
        let reverse = half(|layer| layer.reverse.as_ref().unwrap());
        let (ahead, state_ahead) = forward.forward(input.clone(), None);
        let (back, state_back) = reverse.forward(input.flip([1]), None);

        let tolerance = Tolerance::of(dtype);
        let expected = Tensor::cat(vec![ahead, back.flip([1])], 2);
        assert_close("output", output, expected, tolerance);
        for layer in 0..2 {
            let part = |state: &LstmState, index| state.cell.clone().narrow(0, index, 1);
            let (ahead, back) = (part(&state_ahead, layer), part(&state_back, layer));
            assert_close("c_n forward", part(&state, 2 * layer), ahead, tolerance);
            assert_close("c_n reverse", part(&state, 2 * layer + 1), back, tolerance);
        }
    }
}
