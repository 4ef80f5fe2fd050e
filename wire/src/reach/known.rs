//! The members of a request that an API knows in which others, lists or long texts are.
//!
//! What is in none of these lists is another server's configuration, or nobody's: it is left out of what goes to another's
//! backend, unless it is a number, a literal or a short word, as the sampling parameters of all servers are.

use super::words::unquoted;

/// Of the APIs of OpenAI and Anthropic, of the servers that speak them, and of those that rank: in small letters without `_`,
/// in order.
const KNOWN: [&[u8]; 117] = [
    b"allowedtokenids",
    b"allowedtools",
    b"anthropicbeta",
    b"anthropicversion",
    b"audio",
    b"audiodata",
    b"badwords",
    b"betas",
    b"cachecontrol",
    b"cachesalt",
    b"chattemplateargs",
    b"chattemplatekwargs",
    b"clientmetadata",
    b"content",
    b"contextmanagement",
    b"diagnostics",
    b"dimensions",
    b"documents",
    b"drysequencebreakers",
    b"ebnf",
    b"embeddingtype",
    b"embeddingtypes",
    b"encodingformat",
    b"extrabody",
    b"file",
    b"filedata",
    b"format",
    b"functioncall",
    b"functions",
    b"generationconfig",
    b"generationprompt",
    b"google",
    b"grammar",
    b"grammarjsonfunctions",
    b"grammartriggers",
    b"guidedchoice",
    b"guidedgrammar",
    b"guidedjson",
    b"guidedregex",
    b"guidedwhitespacepattern",
    b"guideline",
    b"image",
    b"imagedata",
    b"images",
    b"include",
    b"input",
    b"inputaudio",
    b"inputextra",
    b"inputimage",
    b"inputprefix",
    b"inputs",
    b"inputsuffix",
    b"instruction",
    b"instructions",
    b"jsonschema",
    b"logitbias",
    b"logprobtokenids",
    b"mediaiokwargs",
    b"messages",
    b"metadata",
    b"mmprocessorkwargs",
    b"modalities",
    b"model",
    b"moderation",
    b"options",
    b"outputconfig",
    b"outputformat",
    b"prediction",
    b"preservedtokens",
    b"prompt",
    b"promptcachekey",
    b"promptcacheoptions",
    b"promptcacheretention",
    b"queries",
    b"query",
    b"queryinstruction",
    b"rankfields",
    b"reasoning",
    b"reasoningbudgetmessage",
    b"reasoningeffort",
    b"regex",
    b"repetitiondetection",
    b"responsefields",
    b"responseformat",
    b"safetyidentifier",
    b"safetysettings",
    b"samplers",
    b"servicetier",
    b"stop",
    b"stopregex",
    b"stopsequences",
    b"stoptokenids",
    b"streamoptions",
    b"structuraltag",
    b"structuredoutputs",
    b"suffix",
    b"system",
    b"text",
    b"text1",
    b"text2",
    b"textformat",
    b"texts",
    b"thinking",
    b"thinkingconfig",
    b"tokenidslogprob",
    b"toolchoice",
    b"toolprompt",
    b"tools",
    b"transforms",
    b"translationoptions",
    b"truncation",
    b"usage",
    b"user",
    b"verbosity",
    b"video",
    b"videos",
    b"vllmxargs",
];

/// The longest text of a member that no API knows, in characters.
const MAX_WORD: usize = 64;

/// Whether an API has a member of this name, in small letters without `_`.
pub(super) fn is_known(letters: &[u8]) -> bool {
    KNOWN.binary_search(&letters).is_ok()
}

/// Whether a string, with its quotes, can only be a word: no address, no path, no template and no text.
pub(super) fn is_word(quoted: &[u8]) -> bool {
    /// Two escapes of a character that is two units of UTF-16.
    const LONGEST: usize = 12;

    if quoted.len() > MAX_WORD * LONGEST + 2 {
        return false;
    }
    let text = unquoted(quoted);
    let Ok(text) = std::str::from_utf8(&text) else { return false };
    text.chars().count() <= MAX_WORD && !text.contains(['/', ':', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order_and_written_as_they_are_compared() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        for name in KNOWN {
            assert!(name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{name:?}");
        }
    }
}
