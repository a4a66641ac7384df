//! The sentences Refract can say, as data: one table per kind of statement.
//!
//! Placeholders: `{i}` the item, `{h}` the history items ("A, B and C"), `{hi}` those and the item, `{ih}` the item and those, `{v}` the value, `{l}` the
//! attribute's name, `{plot}` the premise, `{about}` what the item is, `{thing}` and `{things}` ("film", "films"), `{liked}`
//! ("liked", or "watched" where no opinion is known), `{tried}` ("watched"), `{was}` and `{both}` by the number of history items.
//! Articles before a placeholder are put right when the sentence is rendered. Nothing here says that one thing causes
//! another, and nothing praises: what a request holds cannot support it.

pub(crate) const DIRECTOR: &[&str] = &[
    "{i} was directed by {v}, who also directed {h}.",
    "{v} directed {i} as well as {h}, which you {liked}.",
    "you {liked} {h}; {i} is by the same director, {v}.",
    "like {h}, {i} was directed by {v}.",
    "{i} shares its director, {v}, with {h}.",
    "{i} is another {thing} directed by {v}, the director of {h}.",
    "if you {liked} {h}, {i} offers more from director {v}.",
    "after {h}, {i} is one more {thing} by director {v}.",
    "{v}, who directed {h}, also directed {i}.",
    "{i} comes from {v}, the director of {h}.",
    "having {liked} {h}, you may want to try {i}, also directed by {v}.",
    "{i} brings you back to {v}, who directed {h}.",
    "the director of {h}, {v}, is also the director of {i}.",
    "{i} has the same director as {h}: {v}.",
    "one link between {ih} is the director, {v}.",
    "for more from {v}, the director of {h}, there is {i}.",
    "{i} is another meeting with {v}, the director of {h}, which you {liked}.",
    "from {v}, who directed {h}, comes {i}.",
    "as with {h}, the director of {i} is {v}.",
    "what {i} has in common with {h} is the director, {v}.",
    "{i} could follow {h}, as {v} directed {both}.",
    "you may know {v} as the director of {h}, which you {liked}; {i} has the same director.",
    "{h} {was} directed by {v}, and so was {i}.",
    "next to {h}, {i} is another {thing} from director {v}.",
    "{i} takes you back to {v}, whose {h} you {liked}.",
    "director {v} links {i} to {h}.",
    "among {things} directed by {v}, you {liked} {h}; {i} is another.",
    "you {liked} {h}, directed by {v}; {i} has the same director.",
    "if you {liked} {h}, {i} is also directed by {v}.",
    "with {i}, you stay with {v}, the director of {h}.",
];

pub(crate) const CAST: &[&str] = &[
    "{i} stars {v}, who was also in {h}.",
    "like {h}, {i} has {v} in its cast.",
    "you {liked} {h}; {i} has {v} in its cast too.",
    "{v}, who appears in {h}, also appears in {i}.",
    "{i} brings back {v}, who was in {h}.",
    "after {h}, {i} is another {thing} with {v}.",
    "{ih} share a cast member, {v}.",
    "{v} is in the cast of {i}, just as in {h}.",
    "if you {liked} {h}, {i} offers more of {v}.",
    "for more of {v} after {h}, there is {i}.",
    "{i} is another {thing} starring {v}, whom you know from {h}.",
    "as in {h}, you meet {v} in {i}.",
    "the cast of {i} includes {v}, also seen in {h}.",
    "{v} of {h} returns in {i}.",
    "having {liked} {h}, you may want to try {i}, also with {v}.",
    "you know {v} from {h}, which you {liked}; {i} is another {thing} with the same star.",
    "{i} lets you see {v} again, after {h}.",
    "{v} links {i} to {h}, which you {liked}.",
    "one link between {ih} is {v}, who appears in {both}.",
    "{i} features {v}, as {h} did.",
    "you {liked} {h}, with {v}; {i} has the same star.",
    "what {i} has in common with {h} is {v}, who appears in {both}.",
    "{v} stars in {i}, as in {h}, which you {liked}.",
    "with {i}, you see more of {v}, one of the cast of {h}.",
    "from the cast of {h}, {v} is back in {i}.",
    "if you {liked} {h}, {i} also stars {v}.",
    "{i} could follow {h}, as {v} is in {both}.",
    "next to {h}, {i} is another {thing} starring {v}.",
    "one face from {h}, {v}, is also in {i}.",
    "among {things} with {v}, you {liked} {h}; {i} is another.",
];

pub(crate) const GENRE: &[&str] = &[
    "like {h}, {i} is a {v} {thing}.",
    "{i} is a {v} {thing}, like {h}, which you {liked}.",
    "you {liked} {h}; {i} is another {v} {thing}.",
    "if you {liked} {h}, {i} is one more {v} {thing}.",
    "after {h}, {i} is another {v} {thing}.",
    "{i} belongs with the {v} {things} you {liked}, such as {h}.",
    "{hi} are {both} {v} {things}.",
    "{i} is a {v} {thing} to follow {h}.",
    "for another {v} {thing} after {h}, there is {i}.",
    "having {liked} {h}, you may want to try another {v} {thing}, {i}.",
    "{i} is close in kind to {h}: {both} are {v} {things}.",
    "what {i} has in common with {h} is that {both} are {v} {things}.",
    "as a {v} {thing}, {i} sits near {h}, which you {liked}.",
    "your history holds {v} {things} such as {h}; {i} is one too.",
    "next to {h}, {i} is one more {v} {thing}.",
    "{i} is another {v} {thing}, after {h}.",
    "{i} stays with {v} {things}, after {h}.",
    "alongside {h}, {i} is another {v} {thing} to try.",
    "{i} is a further {v} {thing}, in the company of {h}.",
    "another {v} {thing} beside {h}, which you {liked}, is {i}.",
    "if you are in the mood for a {v} {thing} like {h}, {i} is one.",
    "you {liked} {h}, so here is another {v} {thing}, {i}.",
    "{i} keeps you with the {v} {things}, such as {h}, that you {liked}.",
    "as with {h}, {i} is a {v} {thing}.",
    "one more {v} {thing} after {h} is {i}.",
    "{i} joins {h} among the {v} {things}.",
    "among {v} {things}, you {liked} {h}; {i} is another.",
    "here is {i}, a {v} {thing} to go with {h}.",
    "to go with {h}, {i} is also a {v} {thing}.",
    "from {h}, it is a short way to {i}, another {v} {thing}.",
];

pub(crate) const CO_LIKED: &[&str] = &[
    "people who liked {h} often liked {i} too.",
    "{i} is often liked by people who liked {h}.",
    "those who liked {h} often like {i} as well.",
    "{ih} are liked by the same people more often than chance would have it.",
    "among people who liked {h}, {i} is liked more often than usual.",
    "people who have {h} among their likes often have {i} there too.",
    "{hi} are often liked together.",
    "{i} is often liked together with {h}.",
    "you {liked} {h}, and people who liked {h_again} often liked {i} too.",
    "others who liked {h} often went on to like {i}.",
    "you {liked} {h}; {i} is often liked together with {h_again}.",
    "those who like {h} often turn out to like {i} too.",
    "a liking for {h} often goes with a liking for {i}.",
    "where people liked {h}, they often liked {i} as well.",
    "{i} is often found among the likes of people who liked {h}.",
    "as others see it, {ih} go together: they are often liked by the same people.",
    "people who enjoyed {h} often enjoyed {i} as well.",
    "other people who liked {h} often like {i}, too.",
    "{i} often appeals to people who liked {h}.",
    "next to {h}, people often liked {i} as well.",
    "the same people often like {hi}.",
    "{i} is more often liked by people who liked {h} than by others.",
    "often, those who liked {h} liked {i} too.",
    "of those who liked {h}, more than usual also liked {i}.",
];

pub(crate) const SERIES: &[&str] = &[
    "{i} is part of {v}, like {h}, which you {liked}.",
    "you {liked} {h}; {i} is from the same series, {v}.",
    "like {h}, {i} is part of a series: {v}.",
    "{i} is another part of {v}, the series of {h}.",
    "if you {liked} {h}, {i} stays with the same series, {v}.",
    "after {h}, {i} is one more part of {v}.",
    "{hi} {both} belong to {v}.",
    "{i} takes you back to {v}, as {h} did.",
    "for more of {v} after {h}, there is {i}.",
    "having {liked} {h}, you may want to try {i}, from the same series, {v}.",
    "{i} shares its series, {v}, with {h}.",
    "next to {h}, {i} is another part of {v}.",
];

pub(crate) const SOURCE: &[&str] = &[
    "{i} shares its source with {h}: {v}.",
    "you {liked} {h}; {i} has the same source: {v}.",
    "like {h}, {i} has this source: {v}.",
    "{hi} share a source: {v}.",
    "what {i} has in common with {h} is the source: {v}.",
    "if you {liked} {h}, {i} goes back to the same source: {v}.",
    "having {liked} {h}, you may want to try {i}, which has the same source: {v}.",
    "after {h}, {i} is another {thing} with this source: {v}.",
    "one link between {ih} is the source: {v}.",
    "as with {h}, the source of {i} is this: {v}.",
];

pub(crate) const AUTHOR: &[&str] = &[
    "{i} was written by {v}, who also wrote {h}.",
    "you {liked} {h}; {i} is by the same {l}, {v}.",
    "like {h}, {i} was written by {v}.",
    "{i} shares its {l}, {v}, with {h}.",
    "{i} is another {thing} written by {v}, the {l} of {h}.",
    "{v}, who wrote {h}, also wrote {i}.",
    "after {h}, {i} is one more {thing} written by {v}.",
    "{i} comes from {v}, the {l} of {h}.",
    "having {liked} {h}, you may want to try {i}, also written by {v}.",
    "as with {h}, the {l} of {i} is {v}.",
    "{i} has the same {l} as {h}: {v}.",
    "if you {liked} {h}, {i} offers more from {l} {v}.",
    "one link between {ih} is the {l}, {v}.",
    "for more from {v}, the {l} of {h}, there is {i}.",
];

/// Artists and makers: "by" and "from" fit a band, a brand and a studio.
pub(crate) const MAKER: &[&str] = &[
    "{i} comes from {v}, like {h}.",
    "you {liked} {h}; {i} has the same {l}, {v}.",
    "like {h}, {i} comes from {v}.",
    "{i} shares its {l}, {v}, with {h}.",
    "after {h}, {i} is another {thing} from {v}.",
    "{i} has the same {l} as {h}: {v}.",
    "for more from {v} after {h}, there is {i}.",
    "having {liked} {h}, you may want to try {i}, also from {v}.",
    "as with {h}, the {l} of {i} is {v}.",
    "one link between {ih} is the {l}, {v}.",
    "if you {liked} {h}, {i} offers more from {v}.",
    "next to {h}, {i} is another {thing} from {v}.",
];

pub(crate) const YEAR: &[&str] = &[
    "like {h}, {i} is from the {v}.",
    "{i} is from the {v}, like {h}, which you {liked}.",
    "you {liked} {h}; {i} is another {thing} from the {v}.",
    "{hi} are {both} from the {v}.",
    "after {h}, {i} is another {thing} from the {v}.",
    "as with {h}, {i} is from the {v}.",
    "if you {liked} {h}, {i} is from the same decade, the {v}.",
    "what {i} has in common with {h} is the decade: {both} are from the {v}.",
];

/// Whatever a catalogue may call its attributes.
pub(crate) const OTHER: &[&str] = &[
    "{i} shares its {l}, {v}, with {h}.",
    "you {liked} {h}; {i} has the same {l}: {v}.",
    "{i} has the same {l} as {h}: {v}.",
    "what {i} has in common with {h} is the {l}: {v}.",
    "as with {h}, the {l} of {i} is {v}.",
    "one link between {ih} is the {l}: {v}.",
    "if you {liked} {h}, {i} has the same {l}: {v}.",
    "{ih} share this {l}: {v}.",
    "having {liked} {h}, you may want to try {i}, which has the same {l}: {v}.",
    "after {h}, {i} is another {thing} with the same {l}: {v}.",
];

/// Nothing links the item to the history; said honestly.
pub(crate) const UNRELATED: &[&str] = &[
    "{i} is a change of pace: {about}.",
    "for a change of pace, there is {i}, {about}.",
    "something different this time: {i}, {about}.",
    "{i} would be new ground for you: {about}.",
    "{i} steps away from what you know: {about}.",
    "as a change from your usual {things}, there is {i}, {about}.",
    "{i} is something else for once: {about}.",
    "to try something new, there is {i}, {about}.",
    "away from your usual choices, {i} is {about}.",
    "{i} breaks new ground for you; it is {about}.",
];

/// Of the item alone: there is no history, or only what the item is can be said.
pub(crate) const ALONE: &[&str] = &[
    "{i} is {about}.",
    "a place to start: {i}, {about}.",
    "{i} could be one to begin with: {about}.",
    "here is {i}, {about}.",
    "one to start with is {i}, {about}.",
    "to begin with, there is {i}, {about}.",
    "{i} is a first suggestion: {about}.",
    "this is {i}, {about}.",
];

pub(crate) const PREMISE_VERB: &[&str] = &[
    "{i} {plot}.",
    "to begin with, there is {i}, which {plot}.",
    "here is {i}, which {plot}.",
];
pub(crate) const PREMISE_CLAUSE: &[&str] = &[
    "the premise of {i}: {plot}.",
    "{i} starts from this premise: {plot}.",
    "what {i} is about: {plot}.",
];
pub(crate) const UNRELATED_VERB: &[&str] = &[
    "{i} is a change of pace: it {plot}.",
    "for a change of pace, {i} {plot}.",
    "something different this time: {i} {plot}.",
];
pub(crate) const UNRELATED_CLAUSE: &[&str] = &[
    "{i} is a change of pace, with this premise: {plot}.",
    "for a change of pace, there is {i}, with this premise: {plot}.",
    "for something different, there is {i}, with this premise: {plot}.",
];

/// What the item is, by the attributes it has: `{d}` director, `{c}` cast, `{g}` genre, `{y}` year, `{a}` author, `{m}` artist or
/// maker, `{e}` series, `{s}` source, `{o}` with its name `{l}`. The first whose needs are met, from the style's place on.
pub(crate) const ABOUT: &[&str] = &[
    "a {g} {thing} directed by {d}",
    "a {g} {thing} with {c}",
    "a {thing} directed by {d}, with {c} in the cast",
    "a {g} {thing} from {y}",
    "a {g} {thing} written by {a}",
    "a {g} {thing} from {m}",
    "a {g} {thing} starring {c}",
    "a {thing} directed by {d}",
    "a {thing} written by {a}",
    "a {thing} from {m}",
    "a {thing} with {c} in the cast",
    "a {g} {thing}",
    "a {thing} from {y}",
    "a {thing} that is part of {e}",
    "a {thing} with this {l}: {o}",
    "a {thing} with this source: {s}",
];

/// A second statement, about other history items than the first.
pub(crate) const ALSO_DIRECTOR: &[&str] = &[
    "it also shares its director, {v}, with {h}",
    "its director, {v}, also directed {h}",
    "it is also directed by {v}, like {h}",
    "it has {v} as director, as does {h}",
    "{v}, the director of {h}, directed it",
    "it comes from {v}, who also directed {h}",
];
pub(crate) const ALSO_CAST: &[&str] = &[
    "it also has {v}, whom you know from {h}",
    "its cast includes {v}, who was in {h}",
    "{v}, who was in {h}, appears in it too",
    "it also stars {v}, as {h} did",
    "it has {v} in common with {h}",
    "you meet {v} in it again, after {h}",
];
pub(crate) const ALSO_GENRE: &[&str] = &[
    "it is also a {v} {thing}, like {h}",
    "like {h}, it is a {v} {thing}",
    "it is another {v} {thing} after {h}",
    "as with {h}, it is a {v} {thing}",
    "it goes with {h} as a {v} {thing}",
    "it joins {h} among the {v} {things}",
];
pub(crate) const ALSO_CO_LIKED: &[&str] = &[
    "people who liked {h} often liked it too",
    "it is often liked by people who liked {h}",
    "it is also often liked together with {h}",
    "those who liked {h} often like it as well",
    "others who liked {h} often liked it, too",
    "it often appeals to people who liked {h}",
];
pub(crate) const ALSO_SERIES: &[&str] = &[
    "it is also part of {v}, like {h}",
    "it shares its series, {v}, with {h}",
    "like {h}, it belongs to {v}",
];
pub(crate) const ALSO_YEAR: &[&str] = &[
    "it is also from the {v}, like {h}",
    "like {h}, it is from the {v}",
    "it shares its decade, the {v}, with {h}",
];
pub(crate) const ALSO_OTHER: &[&str] = &[
    "it also shares its {l}, {v}, with {h}",
    "its {l}, {v}, is that of {h} too",
    "like {h}, it has {v} as its {l}",
];

/// A second statement about the same history items as the first.
pub(crate) const SAME_DIRECTOR: &[&str] = &[
    "they share their director, {v}, as well",
    "{v} directed {both} of them",
    "{both} were directed by {v}",
    "the director, {v}, is the same too",
];
pub(crate) const SAME_CAST: &[&str] = &[
    "{v} appears in {both} of them",
    "{both} have {v} in the cast",
    "they share a cast member too, {v}",
    "{both} star {v}",
];
pub(crate) const SAME_GENRE: &[&str] = &[
    "{both} are {v} {things}",
    "they are {both} {v} {things}",
    "{both} of them are {v} {things}",
    "each of them is a {v} {thing}",
];
pub(crate) const SAME_CO_LIKED: &[&str] = &[
    "they are often liked by the same people",
    "people often like them together",
    "they are often liked together",
    "the same people often like them",
];
pub(crate) const SAME_SERIES: &[&str] = &["{both} are part of {v}", "they share a series too, {v}"];
pub(crate) const SAME_YEAR: &[&str] = &["{both} are from the {v}", "they share a decade too, the {v}"];
pub(crate) const SAME_OTHER: &[&str] = &["they also share their {l}, {v}", "{both} have the same {l}, {v}"];

/// A second statement whose history items are partly named already: said of the item alone.
pub(crate) const BARE_DIRECTOR: &[&str] =
    &["it was directed by {v}", "its director is {v}", "{v} directed it"];
pub(crate) const BARE_CAST: &[&str] = &["it stars {v}", "its cast includes {v}", "{v} is in the cast"];
pub(crate) const BARE_GENRE: &[&str] = &["it is a {v} {thing}", "this is a {v} {thing}"];
pub(crate) const BARE_SERIES: &[&str] = &["it is part of {v}", "it belongs to {v}"];
pub(crate) const BARE_YEAR: &[&str] = &["it is from the {v}", "it dates from the {v}"];
pub(crate) const BARE_OTHER: &[&str] = &["its {l} is {v}", "it has {v} as its {l}"];

pub(crate) const THEN_VERB: &[&str] = &["it {plot}", "the {thing} {plot}", "this one {plot}"];
pub(crate) const THEN_CLAUSE: &[&str] = &[
    "the premise: {plot}",
    "its premise: {plot}",
    "what it is about: {plot}",
    "the story: {plot}",
];
