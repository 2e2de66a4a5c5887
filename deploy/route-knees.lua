-- The demo PACS sends every radiograph that may show a knee to Genu, as a hospital's router would.

local RADIOGRAPHS = { CR = true, DX = true }

function OnStoredInstance(instance, tags, metadata, origin)
   if origin["RemoteAet"] == "GENU" then
      return -- Genu's own results, coming back
   end
   local part = string.upper(tags["BodyPartExamined"] or "")
   if RADIOGRAPHS[tags["Modality"]] and (part == "" or string.find(part, "KNEE", 1, true)) then
      SendToModality(instance, "genu")
   end
end
