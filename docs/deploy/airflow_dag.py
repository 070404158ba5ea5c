"""One tick a week under Airflow. Runs that were missed are not caught up with: one tick makes up for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="svd_loop",
    schedule="0 3 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
) as dag:
    BashOperator(
        task_id="tick",
        bash_command="svd-loop schedule configs/production.yaml --inbox inbox --once --json",
        cwd="/srv/svd-loop",
        append_env=True,
        retries=2,  # the job continues where it stopped
        retry_delay=timedelta(minutes=10),
    )
