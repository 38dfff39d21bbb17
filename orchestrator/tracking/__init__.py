"""What happens in a sweep, told to MLflow: the only room that imports mlflow."""
