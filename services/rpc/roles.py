"""Which roles may call which RPC. A method without a row is refused to everyone."""

_ALL = frozenset({"viewer", "member", "admin", "analyst", "operator"})
_WRITE = frozenset({"member", "admin"})
_ADMIN = frozenset({"admin"})
_LOG = frozenset({"analyst", "admin", "operator"})
_RUNNER = frozenset({"runner"})
_OPERATOR = frozenset({"operator"})

ROLES: dict[str, frozenset[str]] = {
    "/tether.eventlog.v1.EventLogService/ReadEvents": _LOG,
    "/tether.eventlog.v1.EventLogService/TailEvents": _LOG,
    "/tether.eventlog.v1.EventLogService/GetHead": _ALL,
    "/tether.eventlog.v1.WebhookService/SetWebhook": _ADMIN,
    "/tether.eventlog.v1.WebhookService/GetWebhook": frozenset({"admin", "analyst"}),
    "/tether.eventlog.v1.WebhookService/RemoveWebhook": _ADMIN,
    "/tether.eventlog.v1.WebhookService/ReplayWebhook": _ADMIN,
    "/tether.scheduler.v1.AccessService/CreateWorkspace": _OPERATOR,
    "/tether.scheduler.v1.AccessService/CreateToken": _ADMIN,
    "/tether.scheduler.v1.AccessService/RevokeToken": _ADMIN,
    "/tether.scheduler.v1.AccessService/EraseTokenName": _ADMIN,
    "/tether.scheduler.v1.AccessService/ListTokens": _ADMIN,
    "/tether.scheduler.v1.AccessService/WhoAmI": _ALL | _RUNNER,
    "/tether.scheduler.v1.RunnerService/CreateRunner": _ADMIN,
    "/tether.scheduler.v1.RunnerService/GetRunner": _ALL,
    "/tether.scheduler.v1.RunnerService/ListRunners": _ALL,
    "/tether.scheduler.v1.RunnerService/WatchRunners": _ALL,
    "/tether.scheduler.v1.RunnerService/SuspendRunner": _ADMIN,
    "/tether.scheduler.v1.RunnerService/ResumeRunner": _ADMIN,
    "/tether.scheduler.v1.RunnerService/RegenerateSecretKey": _ADMIN,
    "/tether.scheduler.v1.RunnerService/UninstallRunner": _ADMIN | _RUNNER,
    "/tether.scheduler.v1.RunnerSessionService/Connect": _RUNNER,
    "/tether.scheduler.v1.WorkflowService/RegisterDataset": _WRITE,
    "/tether.scheduler.v1.WorkflowService/ListDatasets": _ALL,
    "/tether.scheduler.v1.WorkflowService/CheckDataset": _WRITE,
    "/tether.scheduler.v1.WorkflowService/ListArchitectures": _ALL,
    "/tether.scheduler.v1.WorkflowService/ListRates": _ALL,
    "/tether.scheduler.v1.JobService/SubmitJob": _WRITE,
    "/tether.scheduler.v1.JobService/GetJob": _ALL,
    "/tether.scheduler.v1.JobService/ListJobs": _ALL,
    "/tether.scheduler.v1.JobService/WatchJobs": _ALL,
    "/tether.scheduler.v1.JobService/StopJob": _WRITE,
    "/tether.quota.v1.QuotaService/SetQuota": _ADMIN,
    "/tether.quota.v1.QuotaService/GetUsage": _ALL,
    "/tether.quota.v1.QuotaService/WatchUsage": _ALL,
    "/tether.quota.v1.QuotaService/ListCharges": _ALL,
    "/tether.quota.v1.QuotaService/ExplainCharge": _ALL,
    "/tether.quota.v1.QuotaService/AdjustMinutes": _ADMIN,
    "/tether.quota.v1.QuotaService/VerifyUsage": _LOG | _WRITE,
    "/tether.metrics.v1.IngestService/Report": _RUNNER,
    "/tether.metrics.v1.MetricsService/ListSeries": _ALL,
    "/tether.metrics.v1.MetricsService/QueryMetrics": _ALL,
    "/tether.metrics.v1.MetricsService/WatchMetrics": _ALL,
    "/tether.metrics.v1.MetricsService/ReadLogs": _ALL,
    "/tether.metrics.v1.MetricsService/WatchLogs": _ALL,
    "/tether.metrics.v1.EvaluationService/ListEvaluations": _ALL,
    "/tether.metrics.v1.EvaluationService/GetConfusionMatrix": _ALL,
}
