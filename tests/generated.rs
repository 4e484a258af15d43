//! Files of the tree that the program's own tables say: the sample configuration and the manual page. When one is stale:
//! `RELAIS_RENEW=1 cargo test --test generated`.

use std::fmt::Write;
use std::path::Path;

use relais::config::keys::KEYS;
use relais::config::sample;

#[test]
fn the_sample_configuration_is_what_an_installation_writes() {
    compare("systemd/relais.toml", &sample::render(&sample::installed(true)));
}

#[test]
fn the_manual_page_names_every_command_and_option() {
    let page = manual();
    compare("man/relais.1", &page);
    let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\_", "_");
    for key in KEYS {
        if key.flag {
            assert!(plain.contains(&key.flag_name()), "{} is not in the page", key.flag_name());
        }
        assert!(plain.contains(&key.path()), "{} is not in the page", key.path());
    }
}

/// The page of `relais` with a section for each command, and one for the configuration file.
fn manual() -> String {
    let mut command = relais::cli::command();
    command.build();
    let mut out = Vec::new();
    let render = |page: &clap_mangen::Man, out: &mut Vec<u8>| {
        page.render_description_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_options_section(out)
    };
    let main = clap_mangen::Man::new(command.clone()).date("").manual("Relais");
    let mut page = Vec::new();
    main.render_title(&mut page).and_then(|()| main.render_name_section(&mut page)).expect("rendered");
    main.render_synopsis_section(&mut page)
        .and_then(|()| main.render_description_section(&mut page))
        .expect("rendered");
    main.render_subcommands_section(&mut page).expect("rendered");
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        let title = format!("relais {}", one.get_name()).to_uppercase();
        let mut section = Vec::new();
        // What `serve` takes is what `relais` takes; the sections of a command become its subsections.
        render(&clap_mangen::Man::new(one.clone()), &mut section).expect("rendered");
        let section = String::from_utf8(section).expect("UTF-8").replace(".SH ", ".SS ");
        write!(StringOut(&mut out), ".SH \"{title}\"\n{section}").expect("written");
    }
    page.extend(out);
    // The renderer says the same preamble before each section, and means pages of their own.
    let preamble = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let text = String::from_utf8(page).expect("UTF-8").replace(preamble, "");
    let mut text = format!("{preamble}{text}");
    for one in command.get_subcommands() {
        let name = one.get_name().replace('-', "\\-");
        text = text.replace(&format!("relais\\-{name}(1)"), &format!("relais {name}"));
    }
    text.push_str(&configuration());
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

struct StringOut<'a>(&'a mut Vec<u8>);

impl Write for StringOut<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend(text.as_bytes());
        Ok(())
    }
}

/// The keys of the file, with their variables.
fn configuration() -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('-', "\\-");
    let mut text = String::from(
        ".SH CONFIGURATION\nKeys of\n.IR /etc/relais/relais.toml ,\nwith the variable of each. A key before the first dot \
         names the table.\n",
    );
    for key in KEYS {
        let file = if key.file { key.path() } else { format!("{} (not in the file)", key.path()) };
        let (help, default) = (escape(key.help), escape(key.default));
        writeln!(text, ".TP\n\\fB{}\\fR, {}\n{help}. Default: {default}.", escape(&file), escape(&key.variable()))
            .expect("written");
    }
    text.push_str(
        ".SH FILES\n.TP\n.I /etc/relais/relais.toml\nthe configuration\n.TP\n.I /var/lib/relais\nsecrets, certificates and \
         the status socket of the service\n.SH EXIT STATUS\n0 done, 1 failed, 2 wrong command line or configuration.\n",
    );
    text
}

fn compare(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("RELAIS_RENEW").is_some() {
        std::fs::write(&path, expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is stale: RELAIS_RENEW=1 cargo test --test generated");
}
