"""Specs are shown without what looks like a secret."""

import json
from typing import Any

import pytest

from cascade.planning.diff import Change, FieldChange
from cascade.planning.redaction import redacted
from cascade.planning.resource import Key
from cascade.planning.shown import shown_fields


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (
            "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nEEIIrY\n-----END EC PRIVATE KEY-----\nport: 1",
            "-----BEGIN EC PRIVATE KEY-----\n***\n***\n-----END EC PRIVATE KEY-----\nport: 1",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMHcCAQ", "-----BEGIN PRIVATE KEY-----\n***"),
        ("# me\nAGE-SECRET-KEY-1QQPZ78\n", "# me\n***\n"),
        ({"Env": ["A=1", "DB_PASSWORD=hunter22"]}, {"Env": ["A=1", "DB_PASSWORD=***"]}),
        (
            {"Env": ["api_token=x", "KEY=a=b", "EMPTY_KEY="]},
            {"Env": ["api_token=***", "KEY=***", "EMPTY_KEY="]},
        ),
        ({"Env": ["URL=postgres://me:hunter22@db/x"]}, {"Env": ["URL=postgres://***@db/x"]}),
        (
            {"Env": ["URL=postgres://me:hunter22@db/x", "X=hunter22"]},
            {"Env": ["URL=postgres://***@db/x", "X=***"]},
        ),
        (
            {"Env": ["DB_PASSWORD_FILE=/run/secrets/db", "TOKEN_FILE=hunter22"]},
            {"Env": ["DB_PASSWORD_FILE=/run/secrets/db", "TOKEN_FILE=***"]},
        ),
        (
            {"Args": ["sh", "-c", "PASSWORD_FILE=/run/secrets/db KEY_FILE=hunter22 run"]},
            {"Args": ["sh", "-c", "PASSWORD_FILE=/run/secrets/db KEY_FILE=*** run"]},
        ),
        (
            {"Secrets": [{"File": {"Name": "/run/secrets/db"}, "SecretName": "cascade_db-0123456789ab"}]},
            {"Secrets": [{"File": {"Name": "/run/secrets/db"}, "SecretName": "cascade_db-0123456789ab"}]},
        ),
        (
            {"labels": {"cascade.system": "a", "cascade.secret": "db_password", "my.secret": "hunter22"}},
            {"labels": {"cascade.system": "a", "cascade.secret": "db_password", "my.secret": "***"}},
        ),
        (
            {"Env": ["TOKEN_FILE=/9j/4AAQSkZJRg", "KEY_FILE=/run/secrets/a=b", "AUTH_FILE=/run/secretsX"]},
            {"Env": ["TOKEN_FILE=***", "KEY_FILE=***", "AUTH_FILE=***"]},
        ),
        (
            {"Env": ["SecretName=hunter22", "cascade.secret=hunter33", 'AGENT_CONFIG={"SecretName":"ab"}']},
            {"Env": ["SecretName=***", "cascade.secret=***", 'AGENT_CONFIG={"SecretName":"***"}']},
        ),
        ({"Options": {"SecretName": "hunter22"}}, {"Options": {"SecretName": "***"}}),
        ({"Args": ["clone", "https://git@host/x"]}, {"Args": ["clone", "https://***@host/x"]}),
        (
            {"Test": ["CMD-SHELL", "ask --password 'hunter22' --token=abcd -f x"]},
            {"Test": ["CMD-SHELL", "ask --password '***' --token=*** -f x"]},
        ),
        (
            {"Env": ["URL=postgres://me:a/b@hunter22@db/x", "QUERY=http://a/?token=hunter22&x=1"]},
            {"Env": ["URL=postgres://***@db/x", "QUERY=http://a/?token=***&x=1"]},
        ),
        (
            {"Env": ["A=host=x password=hunter22 user=y", "B=x;Pwd=hunter33;y", 'C={"key": "hunter44"}']},
            {"Env": ["A=host=x password=*** user=y", "B=x;Pwd=***;y", 'C={"key": "***"}']},
        ),
        (
            {"Test": ["CMD", "curl", "-H", "Authorization: Bearer hunter22", "-u", "me:hunter33"]},
            {"Test": ["CMD", "curl", "-H", "Authorization: Bearer ***", "-u", "me:***"]},
        ),
        (
            {"Test": ["CMD-SHELL", "export API_KEY=hunter22; mysqladmin ping -phunter33"]},
            {"Test": ["CMD-SHELL", "export API_KEY=***; mysqladmin ping -p***"]},
        ),
        (
            {"Env": ["X=password   = hunter22 y", "Y=user:  fox, token \t:\thunter33"]},
            {"Env": ["X=password   = *** y", "Y=user:  fox, token \t:\t***"]},
        ),
        ({"Test": ["CMD", "redis-cli", "-a", "hunter22"]}, {"Test": ["CMD", "redis-cli", "-a", "***"]}),
        ({"Args": ["run", "-p", "8080", "-a", "fox"]}, {"Args": ["run", "-p", "8080", "-a", "fox"]}),
        ({"Env": ["PASSWORD=hunter22", "X=a hunter22 b"]}, {"Env": ["PASSWORD=***", "X=a *** b"]}),
        ({"Args": ["run", "--api-key", "abc", "-p"]}, {"Args": ["run", "--api-key", "***", "-p"]}),
        ({"Args": ["run", "--token=abc", "a=b"]}, {"Args": ["run", "--token=***", "a=b"]}),
        ({"Labels": {"a.secret": "x", "b": "y"}}, {"Labels": {"a.secret": "***", "b": "y"}}),
        ({"Options": {"splunk-token": "x"}}, {"Options": {"splunk-token": "***"}}),
        (
            {"Env": ['AGENT_CONFIG={"api_key":"ab","deep":{"token":"cd"},"x":1}']},
            {"Env": ['AGENT_CONFIG={"api_key":"***","deep":{"token":"***"},"x":1}']},
        ),
        ({"Env": ["AGENT_CONFIG=none"]}, {"Env": ["AGENT_CONFIG=none"]}),
        (
            {"Env": ["PASSWORD=postgres"], "Image": "postgres@sha256:00", "Name": "a_postgres"},
            {"Env": ["PASSWORD=***"], "Image": "postgres@sha256:00", "Name": "a_postgres"},
        ),
        ({"Env": ["KEY=a", "X=a cat"]}, {"Env": ["KEY=***", "X=a cat"]}),
        (
            {"Retries": 3, "Init": True, "Healthcheck": None},
            {"Retries": 3, "Init": True, "Healthcheck": None},
        ),
        ({"Test": ["CMD", "curl", "-f", "http://a/"]}, {"Test": ["CMD", "curl", "-f", "http://a/"]}),
    ],
)
def test_a_value_under_a_secret_name_is_hidden_wherever_it_stands(spec: Any, shown: Any) -> None:
    assert redacted(spec) == shown


def test_hiding_changes_nothing_of_the_spec_itself() -> None:
    spec = {"Env": ["PASSWORD=hunter22"]}
    redacted(spec)
    assert spec == {"Env": ["PASSWORD=hunter22"]}


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("TaskTemplate.ContainerSpec.Secrets./run/secrets/db.SecretName", False),
        ("labels.cascade.secret", False),
        ("TaskTemplate.ContainerSpec.Env.SecretName", True),
        ("TaskTemplate.ContainerSpec.Env.cascade.secret", True),
        ("Labels.SecretName", True),
    ],
)
def test_of_a_field_the_name_of_a_secret_is_shown_and_no_variable_called_so(path: str, hidden: bool) -> None:
    change = Change(Key("a", "service", "b"), "update", (FieldChange(path, None, "hunter22"),), {})
    (field,) = shown_fields(change)
    assert field.desired == ("***" if hidden else "hunter22")


def test_a_planted_secret_is_nowhere_in_the_output() -> None:
    planted = "s3cr3t-of-the-house"
    spec = {
        "Env": [f"APP_SECRET={planted}", f"DSN=redis://:{planted}@h", f"OTHER={planted}"],
        "Args": ["--password", planted, planted],
        "Test": ["CMD-SHELL", f"ask --with {planted}"],
        "Labels": {"note": planted},
    }
    assert planted not in json.dumps(redacted(spec))
