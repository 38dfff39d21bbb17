"""The file system of an address, and what it complains of in words that say what to do.

The only place that knows fsspec's packages and their errors. Credentials are never read here: the
packages take them from the environment, from the provider's own files or from the machine's role.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainables.contract.addresses import OBJECT_STORES, check_address
from trainables.contract.errors import OrchestrateError, UserError
from trainables.contract.names import printable
from trainables.contract.secrets import redacted

EXTRAS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
"""Protocol -> the extra of this project that brings its package."""

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's account",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
"""Extra -> where its credentials come from."""


def opened(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it, without a slash at its end. Nothing
    is asked yet; what the file system raises later, `in_words` explains.

    UserError where the address is none, holds a password, or its package is not installed.
    """
    problem = check_address(address)
    if problem is not None:
        raise UserError(problem)
    from fsspec.core import url_to_fs

    protocol = address.partition("://")[0]
    options: dict[str, Any] = {}
    if protocol in OBJECT_STORES:
        options["use_listings_cache"] = False  # others write there, too
    if protocol == "s3":
        # s3fs makes each call five times itself: with the five of botocore it takes minutes to say
        # that nothing answers
        options["config_kwargs"] = {"retries": {"total_max_attempts": 2}}
    if protocol == "file":
        options["auto_mkdir"] = True  # as in a bucket, which has no folders
    try:
        files, root = url_to_fs(address, **options)
    except ImportError as error:
        raise UserError(f"{address}: {_missing(protocol, error)}") from error
    except Exception as error:
        raise UserError(f"{address}: {_unopened(protocol, error)}") from error
    return files, str(root).rstrip("/")


def _missing(protocol: str, error: ImportError) -> str:
    if protocol not in EXTRAS:
        return f"needs a package that is not installed: {first_line(error)}"
    extra = EXTRAS[protocol]
    return f"needs the extra '{extra}', which is not installed: pip install 'orchestrate[{extra}]'"


def _unopened(protocol: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "rotocol" in str(error):
        known = "s3://, gs://, az:// and file://"
        return f"must begin with a protocol that is known, such as {known}; got '{protocol}://'"
    return f"cannot be opened: {first_line(error)}"


@contextmanager
def explained(address: str, doing: str = "read") -> Iterator[None]:
    """Within: what the file system of the address raises becomes one UserError in words.

    A FileNotFoundError passes where only an object is missing, not its bucket. doing: `read`,
    `write`, `list` or `delete`, which rights are for.
    """
    try:
        yield
    except OrchestrateError:
        raise
    except FileNotFoundError as error:
        if not lacks_bucket(error):
            raise
        raise UserError(in_words(error, address, doing)) from error
    except Exception as error:
        if isinstance(error, OSError) or _module(error) in _PACKAGES:
            raise UserError(in_words(error, address, doing)) from error
        raise


_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "adlfs", "azure")
"""Their errors are no OSError."""


def in_words(error: BaseException, address: str, doing: str = "read") -> str:
    """`s3://bucket/runs: there is no bucket 'bucket': make it, or correct its name`: one line of
    what keeps us from `doing` there and, where it is for the reader to mend, how. See `explained`
    for `doing`.
    """
    return f"{redacted(address)}: {reason_in_words(error, address, doing)}"


def reason_in_words(error: BaseException, address: str, doing: str = "read") -> str:
    """The same without the address."""
    protocol, _, rest = address.partition("://")
    bucket, extra = rest.split("/")[0], EXTRAS.get(protocol)
    codes = _codes(error)
    detail = printable(redacted(first_line(error)))
    known = CREDENTIALS.get(extra or "", "the environment")
    if lacks_bucket(error):
        said = f"there is no bucket '{bucket}': make it, or correct its name"
    elif codes & _NO_CREDENTIALS:
        said = f"no credentials are found: give {known}"
    elif codes & _WRONG_CREDENTIALS:
        said = f"the credentials are not accepted ({detail}): check {known}"
    elif "RequestTimeTooSkewed" in codes:
        said = f"the clock of this machine is wrong ({detail})"
    elif isinstance(error, PermissionError) or codes & _NO_RIGHTS:
        said = f"no right to {doing} there ({detail}): "
        said += "grant it to these credentials" if extra else "grant it to this account"
        if extra and "403" in codes:  # an answer without a body: a wrong key has the same
            said += f", or check {known}"
    elif isinstance(error, FileNotFoundError):
        said = "is not there"
    elif codes & _OTHER_REGION:
        said = f"the bucket lies in another region ({detail}): set AWS_DEFAULT_REGION"
    elif may_pass(error):
        said = f"nothing answers, or not in time ({detail}): check the network"
        said += " and AWS_ENDPOINT_URL" if extra == "s3" else ""
    else:
        said = f"cannot {doing} there: {detail}"
    return said


def may_pass(error: BaseException) -> bool:
    """Whether another attempt after a pause may succeed: nothing answered, or it was busy."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return False
    codes = _codes(error)
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError)):
        return False
    if codes & (_NO_CREDENTIALS | _WRONG_CREDENTIALS | _NO_RIGHTS | _OTHER_REGION):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)) or codes & _MAY_PASS:
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _BUSY
    return isinstance(error, OSError)


def lacks_bucket(error: BaseException) -> bool:
    """Whether it is the bucket that is missing, not an object in it."""
    return bool(_codes(error) & {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})


_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
    "ProfileNotFound",
    "RefreshError",
    "ClientAuthenticationError",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "401",
}
_NO_RIGHTS = {"AccessDenied", "AllAccessDisabled", "AuthorizationPermissionMismatch", "403"}
_OTHER_REGION = {"PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"}
_MAY_PASS = {
    "EndpointConnectionError",
    "ConnectionClosedError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "HTTPClientError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "IncompleteRead",
    "ResponseParserError",
    "ClientPayloadError",
    "ClientConnectionError",
    "ServiceRequestError",
    "ServiceResponseError",
    "TransportError",
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    "OperationAborted",
    "429",
    "500",
    "502",
    "503",
    "504",
}
"""Names of errors and codes of services, of S3, Google and Azure."""

_BUSY = (errno.EBUSY, errno.EREMOTEIO, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.EHOSTUNREACH)


def _codes(error: BaseException) -> set[str]:
    """What an error and those that it came from are called, by classes, codes and HTTP status."""
    found: set[str] = set()
    current: BaseException | None = error
    while current is not None and len(found) < 100:
        found |= {kind.__name__ for kind in type(current).__mro__}
        response = getattr(current, "response", None)
        if isinstance(response, dict):
            found.add(str(response.get("Error", {}).get("Code", "")))
        for name in ("code", "status", "status_code", "error_code"):
            found.add(str(getattr(current, name, "")))
        current = current.__cause__ if current.__cause__ is not current else None
    return found


def _module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def first_line(error: BaseException) -> str:
    """The first line of an error, without the detail that SDKs append."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}"
    return re.sub(r"^b?['\"]|['\"]$", "", text.splitlines()[0].strip())
