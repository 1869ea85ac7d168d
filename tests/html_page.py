"""A page of HTML taken apart, for the tests of the report."""

import html.parser


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced, and collects links, texts of images, and text.

    `tags` are their names, `shape` has the names of their attributes too.
    """

    void = {"meta", "img", "source", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.alts, self.words, self.tags, self.shape = [], [], [], [], [], []
        self.feed(text)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.shape.append((tag, *(name for name, _ in attrs)))
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("src", "srcset", "href") if name in attrs]
        if tag == "img":
            self.alts.append(attrs["alt"])
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)
