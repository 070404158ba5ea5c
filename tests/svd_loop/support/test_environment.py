from svd_loop.support.environment import without_secrets


def test_credentials_stay_here() -> None:
    kept = {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "us", "MONKEY": "1", "URL": "http://a/b:c@d"}
    secret = {
        "VLLM_API_KEY": "k",
        "HF_TOKEN": "t",
        "AWS_SECRET_ACCESS_KEY": "s",
        "aws_session_token": "t",
        "DB_PASSWORD": "p",
        "OPENAI_APIKEY": "k",
        "GOOGLE_APPLICATION_CREDENTIALS": "/f",
        "AWS_ACCESS_KEY_ID": "k",
        "MLFLOW_TRACKING_URI": "https://user:word@host/",
    }
    assert without_secrets({**kept, **secret}) == kept
