"""An Optuna objective as Optuna's users write it; velodrome runs it without a change.

    python examples/digits_optuna.py
    velo sweep examples/digits_optuna.py --goal "maximize accuracy" --scheduler median --trials 20
"""

import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
scaler = StandardScaler().fit(x_train)
x_train, x_val = scaler.transform(x_train), scaler.transform(x_val)


def objective(trial):
    loss = trial.suggest_categorical("loss", ["hinge", "log_loss", "modified_huber"])
    alpha = trial.suggest_float("alpha", 1e-6, 1e-1, log=True)
    schedule = trial.suggest_categorical("learning_rate", ["optimal", "constant"])
    eta0 = trial.suggest_float("eta0", 1e-4, 1e-1, log=True) if schedule == "constant" else 0.01
    model = SGDClassifier(loss=loss, alpha=alpha, learning_rate=schedule, eta0=eta0, random_state=0)
    for epoch in range(10):
        model.partial_fit(x_train, y_train, classes=range(10))
        accuracy = model.score(x_val, y_val)
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("epochs", epoch + 1)
    return accuracy


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
    study.optimize(objective, n_trials=20)
    print(study.best_value, study.best_params)
