//! Proves that the gradient checker finds what is wrong: a gradient that is not the slope, by name
//! and place; a missing one; numbers in which nothing can be checked.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use scratch_lstm::ScratchLstmConfig;
use scratch_lstm::gradcheck::{GradCheck, GradCheckError, gradcheck, to_f64};
use scratch_tests::backend::has_f64;
use scratch_tests::device;

#[derive(Module, Debug)]
struct Two {
    right: Param<Tensor<1>>,
    wrong: Param<Tensor<2>>,
}

fn two(device: &Device) -> Two {
    let values = |count: usize| (1..=count).map(|n| n as f64 / 3.0).collect::<Vec<_>>();
    let options = (device, DType::F64);
    let right = Tensor::from_data(TensorData::new(values(3), [3]), options);
    let wrong = Tensor::from_data(TensorData::new(values(6), [2, 3]), options);
    Two {
        right: Param::from_tensor(right),
        wrong: Param::from_tensor(wrong),
    }
}

fn skip(test: &str) -> bool {
    !has_f64(test)
}

#[test]
fn right_gradients_are_reported_by_name() {
    if skip("right_gradients_are_reported_by_name") {
        return;
    }
    let report = gradcheck(&two(&device().autodiff()), |two| {
        (two.right.val().exp(), two.wrong.val().sin())
    })
    .unwrap();
    let checked: Vec<_> = report
        .parameters
        .iter()
        .map(|(name, parameter)| (name.as_str(), parameter.checked))
        .collect();
    assert_eq!(checked, [("right", 3), ("wrong", 6)]);
    assert!(report.to_string().contains("right  "), "{report}");
}

#[test]
fn a_wrong_gradient_is_found_by_name_and_place() {
    if skip("a_wrong_gradient_is_found_by_name_and_place") {
        return;
    }
    // Half of the slope is kept from autodiff.
    let forward = |two: &Two| {
        let wrong = two.wrong.val();
        (two.right.val().exp(), wrong.clone() * wrong.detach())
    };
    let error = gradcheck(&two(&device().autodiff()), forward).unwrap_err();
    let GradCheckError::Wrong {
        wrong,
        checked,
        ref first,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((wrong, checked), (6, 9));
    assert_eq!(
        (first.name.as_str(), &first.place[..]),
        ("wrong", &[0, 0][..])
    );
    assert!((first.slope / first.gradient - 2.0).abs() < 1e-6, "{error}");
    assert!(error.to_string().contains("`wrong` at [0, 0]"), "{error}");

    let check = GradCheck {
        directions: Some(2),
        ..GradCheck::default()
    };
    let error = check.run(&two(&device().autodiff()), forward).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("2 of 4") && text.contains("`wrong` in a random direction"),
        "{text}"
    );
}

#[test]
fn a_missing_gradient_is_found() {
    if skip("a_missing_gradient_is_found") {
        return;
    }
    let error = gradcheck(&two(&device().autodiff()), |two| {
        two.right.val().exp() * two.wrong.val().detach().sum()
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("6 of 9") && error.contains("gradient 0e0"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_checked_says_so() {
    let device = device().autodiff();
    let lstm = ScratchLstmConfig::new(2, 3).init(&device);
    let forward = |lstm: &scratch_lstm::ScratchLstm| {
        let dtype = lstm.layers[0].forward.weight_hh.dtype();
        lstm.forward(Tensor::ones([1, 2, 2], (&device, dtype)), None)
            .0
    };
    let error = gradcheck(&lstm, forward).unwrap_err();
    assert_eq!(
        error,
        GradCheckError::ElementType {
            name: "layers.0.forward.bias".into(),
            found: DType::F32
        }
    );
    let none = GradCheck {
        directions: Some(0),
        ..GradCheck::default()
    };
    let error = none.run(&lstm, forward).unwrap_err();
    assert_eq!(error, GradCheckError::NoDirections);
    let error = gradcheck(&lstm.clone().freeze(), forward).unwrap_err();
    assert_eq!(error, GradCheckError::NoParameters);
    if has_f64("what_cannot_be_checked_says_so") {
        gradcheck(&to_f64(lstm), forward).unwrap();
    }
}
