//! The role of a member, by its name: the vocabulary of the APIs, and of the servers that implement them.
//!
//! A request member that has no role here and is not in [`known`](super::known) is left out.

use super::name::MemberName;

/// The role of a member, which its name determines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MemberRole {
    /// Nothing. The value is inspected.
    #[default]
    Plain,
    /// The type of the object.
    Type,
    /// A function: a call or a declaration if it is an object.
    Function,
    /// Not defined by the API: a schema, the arguments of a call, or text of the model. The value is not inspected.
    Opaque,
    /// The arguments of a call if it is an object.
    CallInput,
    /// The URL of an image, a file or a server, which is fetched.
    FetchUrl,
    /// A URL. In a citation it names the source of a text; elsewhere the server fetches it.
    Url,
    /// An image, audio, a video or a file, as inline data or as a URL.
    Media,
    /// Files that accompany a message, in any form.
    Attachments,
    /// The inline data of media.
    MediaData,
    /// A path or a source: a location in media, else plain.
    Source,
    /// The id of a file that the server stores.
    StoredFile,
    /// The key under which the server caches media. Any user who sends the key gets the media.
    MediaUuid,
    /// The modality of the input: URLs in it are fetched unless it is text.
    Modality,
    /// The list of tools.
    Tools,
    /// Whether, and which, tool has to be called.
    ToolChoice,
    /// For the owner alone, unless it is null, false, empty or -1.
    OwnerOnly,
    /// For the owner alone, unless it is null or false. Some servers read 1 or "on" as true.
    OwnerOnlyFlag,
    /// Whether the answer is stored: for the owner alone, unless it is null or false. Some servers take null for true.
    Store,
}

impl MemberRole {
    /// Whether the value names media, a file or a URL: leaving it out would change the request.
    pub(super) fn is_media(self) -> bool {
        matches!(self, Self::FetchUrl | Self::Url | Self::Media | Self::StoredFile | Self::Modality)
    }

    /// Whether only the row's owner may send an object or array of this role.
    pub(super) fn is_owner_only(self) -> bool {
        matches!(self, Self::OwnerOnly | Self::OwnerOnlyFlag | Self::Store)
    }
}

/// The request member being read, if it determines the roles of the members in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Section {
    #[default]
    Other,
    Tools,
    ToolChoice,
    Prompt,
    Documents,
    /// The items of a conversation of the Responses API.
    Input,
    Metadata,
    /// Metadata with upper-case letters in its name, which only some servers recognize.
    MisspelledMetadata,
    /// Members that SDKs merge into the request, and Ollama's options, which are members of a request elsewhere.
    ExtraBody,
    /// The variables of a chat template.
    Template,
}

impl Section {
    pub(super) fn of(name: &MemberName) -> Self {
        match name.letters() {
            b"tools" => Self::Tools,
            b"toolchoice" => Self::ToolChoice,
            b"prompt" => Self::Prompt,
            b"input" => Self::Input,
            b"extrabody" | b"vllmxargs" | b"options" => Self::ExtraBody,
            b"chattemplatekwargs" | b"chattemplateargs" => Self::Template,
            b"documents" if name.is_exact() => Self::Documents,
            b"metadata" | b"clientmetadata" if name.is_exact() => Self::Metadata,
            b"metadata" | b"clientmetadata" => Self::MisspelledMetadata,
            _ => Self::Other,
        }
    }

    /// Whether the member is an object whose members are judged one by one.
    pub(super) fn is_object(self) -> bool {
        matches!(self, Self::Metadata | Self::MisspelledMetadata | Self::ExtraBody | Self::Template)
    }
}

/// The role of a request member.
pub(super) fn request_role(name: &MemberName) -> MemberRole {
    match name.letters() {
        b"tools" => MemberRole::Tools,
        b"toolchoice" => MemberRole::ToolChoice,
        // Tools, searches and files of the server.
        b"mcpservers"
        | b"websearchoptions"
        | b"searchparameters"
        | b"plugins"
        | b"integrations"
        | b"datasources"
        | b"toolids"
        | b"toolservers"
        | b"features"
        | b"files"
        | b"container"
        // Stored answers, conversations and caches.
        | b"previousresponseid"
        | b"conversation"
        | b"sessionparams"
        | b"idslot"
        | b"slotid"
        | b"rid"
        | b"requestid"
        | b"promptid"
        | b"multimodaluuids"
        | b"mmhashes"
        // Conversations, filters and tools in the owner's account at Open WebUI.
        | b"chatid"
        | b"parentid"
        | b"messageids"
        | b"usermessage"
        | b"filterids"
        | b"skillids"
        | b"terminalid"
        | b"backgroundtasks"
        // Models other than the published one.
        | b"models"
        | b"modellist"
        | b"route"
        | b"preset"
        | b"fallbacks"
        | b"contextwindowfallbacks"
        | b"contextwindowfallbackdict"
        | b"contentpolicyfallbacks"
        | b"draftmodel"
        | b"lora"
        | b"loraid"
        | b"lorapath"
        | b"lorarequest"
        | b"adapters"
        | b"adapterid"
        | b"adaptersource"
        | b"modelitem"
        | b"modelinfo"
        | b"userconfig"
        | b"routersettingsoverride"
        | b"specificdeployment"
        | b"customllmprovider"
        | b"backend"
        | b"modelbasename"
        // Keys, hosts, the owner's guardrails and logging, and code.
        | b"apikey"
        | b"headers"
        | b"defaultheaders"
        | b"extraheaders"
        | b"extraquery"
        | b"kvtransferparams"
        | b"bootstrapport"
        | b"bootstraproom"
        | b"guardrails"
        | b"guardrailconfig"
        | b"disableglobalguardrail"
        | b"disableglobalguardrails"
        | b"callbacks"
        | b"successcallback"
        | b"failurecallback"
        | b"customlogitprocessor" => MemberRole::OwnerOnly,
        b"store" => MemberRole::Store,
        b"background" | b"deferred" | b"enablesearch" | b"websearch" | b"webfetch"
        | b"mocktestingfallbacks" | b"ttl" => MemberRole::OwnerOnlyFlag,
        b"modality" | b"infinityextramodality" => MemberRole::Modality,
        b"responseformat" | b"text" | b"functions" | b"guidedjson" | b"structuredoutputs" | b"jsonschema"
            if name.is_exact() =>
        {
            MemberRole::Opaque
        }
        // Unlike in a nested object, these are neither arguments nor opaque here.
        b"input" | b"metadata" | b"clientmetadata" => MemberRole::Plain,
        letters if is_gateway_member(letters) => MemberRole::OwnerOnly,
        _ => object_role(name),
    }
}

/// The role of a member in `section`, `depth` levels deep; the request, or the `extra_body`, is level 1.
pub(super) fn nested_role(name: &MemberName, section: Section, depth: usize) -> MemberRole {
    match (section, name.letters()) {
        (Section::ToolChoice, b"type") => MemberRole::ToolChoice,
        (Section::Prompt, b"id") if depth <= 3 => MemberRole::OwnerOnly,
        (Section::Metadata | Section::MisspelledMetadata, letters) if is_server_metadata(letters) => {
            MemberRole::OwnerOnly
        }
        (Section::ToolChoice | Section::Metadata, _) => MemberRole::Plain,
        // Documents to rank or to cite have fields of their author; only media is defined by an API.
        (Section::Documents, letters) if depth == 3 => match object_role(name) {
            MemberRole::FetchUrl if !name.begins_like_media() => MemberRole::Opaque,
            MemberRole::Plain if letters == b"content" => MemberRole::Plain,
            role @ (MemberRole::Type | MemberRole::Media | MemberRole::StoredFile | MemberRole::FetchUrl) => {
                role
            }
            _ => MemberRole::Opaque,
        },
        _ => object_role(name),
    }
}

/// The role of a member of any object.
fn object_role(name: &MemberName) -> MemberRole {
    match name.letters() {
        b"type" => MemberRole::Type,
        b"tools" => MemberRole::Tools,
        b"function" if name.is_exact() => MemberRole::Function,
        b"arguments" | b"parameters" | b"inputschema" | b"schema" | b"properties" | b"metadata"
        | b"annotations" | b"citations" | b"action" | b"searchresults"
            if name.is_exact() =>
        {
            MemberRole::Opaque
        }
        b"input" if name.is_exact() => MemberRole::CallInput,
        b"image" | b"images" | b"imagedata" | b"inputimage" | b"audio" | b"audiodata" | b"inputaudio"
        | b"video" | b"videos" | b"videodata" | b"inputvideo" | b"file" | b"files" | b"filedata"
        | b"inputfile" | b"multimodaldata" => MemberRole::Media,
        b"attachments" => MemberRole::Attachments,
        b"data" => MemberRole::MediaData,
        b"path" | b"source" => MemberRole::Source,
        b"fileid" | b"fileids" | b"vectorstoreids" | b"cachedcontent" => MemberRole::StoredFile,
        b"uuid" => MemberRole::MediaUuid,
        // A chat template is a program.
        b"apibase" | b"mcpservers" | b"chattemplate" => MemberRole::OwnerOnly,
        b"url" | b"uri" if name.is_exact() => MemberRole::Url,
        _ if name.is_url() => MemberRole::FetchUrl,
        _ => MemberRole::Plain,
    }
}

/// Whether a request member configures a gateway: its hosts, credentials, logging or mock answers.
fn is_gateway_member(letters: &[u8]) -> bool {
    const BEGIN: [&[u8]; 7] = [b"litellm", b"mock", b"aws", b"azure", b"vertex", b"langfuse", b"langsmith"];
    const END: [&[u8]; 3] = [b"host", b"endpoint", b"credentials"];
    BEGIN.iter().any(|begin| letters.starts_with(begin)) || END.iter().any(|end| letters.ends_with(end))
}

/// Whether a member of the metadata makes servers run tools, or selects their guardrails, routes or logging.
fn is_server_metadata(letters: &[u8]) -> bool {
    const WORDS: [&[u8]; 9] = [
        b"mcp",
        b"assistant",
        b"localai",
        b"litellm",
        b"guardrail",
        b"langfuse",
        b"callback",
        b"fallback",
        b"plugin",
    ];
    WORDS.iter().any(|word| letters.windows(word.len()).any(|part| part == *word))
}
