"""Navigation only: one page a question."""

import streamlit as st

st.set_page_config(page_title="Weir", page_icon="🌊", layout="wide", initial_sidebar_state="collapsed")
st.navigation([st.Page("app_pages/overview.py", title="Is it correct, how fresh, what does it cost?", icon=":material/water:", default=True)], position="hidden").run()
