-- The health of a MeshInstallation in Argo CD; docs/gitops.md tells how to install it and what it says when.
-- One that is being deleted is Progressing: Argo CD sees to that itself.
local health = { status = "Progressing", message = "waiting for the operator to look at this spec" }

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
