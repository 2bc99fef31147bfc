-- Health check of MeshInstallations for Argo CD; docs/gitops.md describes its installation and results.
-- Argo CD itself reports resources with a deletion timestamp as Progressing.
local health = { status = "Progressing", message = "waiting for the operator to reconcile this spec" }

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local ready = nil
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
end
if ready == nil then
  return health
end

health.message = ready.reason .. ": " .. ready.message
if ready.status == "False" then
  health.status = "Degraded"
elseif obj.spec.paused then
  health.status = "Suspended"
elseif ready.status == "True" then
  health.status = "Healthy"
end
return health
